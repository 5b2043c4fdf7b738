package medium

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Disc is an image for CDs and sticks: an ISO 9660 volume that a BIOS starts through isolinux (El Torito, or as a hard disk), and
// a UEFI through the FAT volume in it (El Torito, or as a partition).
type Disc struct {
	Label  string
	Made   time.Time
	MBR    []byte // isohdpfx.bin
	Loader []byte // isolinux.bin
	FAT    []byte
	Files  []DiscFile
}

// DiscFile is a file on it. One that is Inside lies at that offset in the FAT volume and is not stored a second time, so that a
// BIOS starts the very bytes that a UEFI starts. The offset is a multiple of 2048.
type DiscFile struct {
	Path   string // ISOLINUX/ISOLINUX.CFG: at most one folder, capital letters, digits, _ and one dot
	Data   []byte
	Inside bool
	Offset int
}

// Sectors of the volume (ECMA-119, and "El Torito" Bootable CD-ROM Format Specification, 1.0).
const (
	sectorPrimary = 16 + iota
	sectorBoot
	sectorEnd
	sectorCatalog
	sectorPathsLE
	sectorPathsBE
	sectorRoot
)

// Image is the whole image. It is a multiple of 1 MiB, which a BIOS takes for a cylinder of a disk.
func (d Disc) Image() ([]byte, error) {
	if len(d.MBR) != 432 || len(d.Loader) < 68 || !bytes.Equal(d.Loader[64:68], []byte{0xfb, 0xc0, 0x78, 0x70}) {
		return nil, errors.New("isohdpfx.bin or isolinux.bin is not as expected: the package is another one")
	}
	folders := []string{""}
	for _, f := range d.Files {
		if dir, _, ok := strings.Cut(f.Path, "/"); ok && !slices.Contains(folders, dir) {
			folders = append(folders, dir)
		}
	}
	slices.Sort(folders)
	next := sectorRoot + len(folders)
	place := func(n int) (sector int) {
		sector = next
		next += roundUp(n, sectorSize) / sectorSize
		return sector
	}
	loader := place(len(d.Loader))
	at := map[string]int{}
	for _, f := range d.Files {
		if !f.Inside {
			at[f.Path] = place(len(f.Data))
		}
	}
	fat := place(len(d.FAT))
	for _, f := range d.Files {
		if f.Inside {
			at[f.Path] = fat + f.Offset/sectorSize
		}
	}
	// Drives read ahead beyond what they are asked for: 150 sectors, as other programs leave them.
	out := make([]byte, roundUp((next+150)*sectorSize, 1<<20))
	sector := func(n int) []byte { return out[n*sectorSize:] }

	for i, dir := range folders {
		self := record("\x00", sectorRoot+i, sectorSize, true, d.Made)
		list := append(self, record("\x01", sectorRoot, sectorSize, true, d.Made)...)
		var entries []DiscFile
		for _, f := range d.Files {
			if rest, ok := strings.CutPrefix(f.Path, dir+"/"); ok && dir != "" {
				entries = append(entries, DiscFile{Path: rest, Data: f.Data, Offset: at[f.Path]})
			} else if dir == "" && !strings.Contains(f.Path, "/") {
				entries = append(entries, DiscFile{Path: f.Path, Data: f.Data, Offset: at[f.Path]})
			}
		}
		if dir == "" {
			for j, sub := range folders[1:] {
				entries = append(entries, DiscFile{Path: sub, Inside: true, Offset: sectorRoot + 1 + j})
			}
		}
		slices.SortFunc(entries, func(a, b DiscFile) int { return strings.Compare(a.Path, b.Path) })
		for _, e := range entries {
			if e.Inside { // a folder
				list = append(list, record(e.Path, e.Offset, sectorSize, true, d.Made)...)
			} else {
				list = append(list, record(e.Path+";1", e.Offset, len(e.Data), false, d.Made)...)
			}
		}
		if len(list) > sectorSize {
			return nil, fmt.Errorf("folder %q has too many files for one sector", dir)
		}
		copy(sector(sectorRoot+i), list)
	}
	for _, f := range d.Files {
		switch {
		case !f.Inside:
			copy(sector(at[f.Path]), f.Data)
		case f.Offset%sectorSize != 0 || !bytes.HasPrefix(d.FAT[f.Offset:], f.Data):
			return nil, fmt.Errorf("%s is not where it is said to be in the FAT volume", f.Path)
		}
	}
	copy(sector(fat), d.FAT)
	copy(sector(loader), bootInfo(d.Loader, loader))
	d.volume(sector, folders, len(out)/sectorSize)
	d.catalog(sector, loader, fat)
	d.partitions(out, loader, fat)
	return out, nil
}

// both32 and both16 write a number in both byte orders, as most of ECMA-119's are.
func both32(b []byte, n int) {
	le.PutUint32(b, uint32(n))
	be.PutUint32(b[4:], uint32(n))
}

func both16(b []byte, n int) {
	le.PutUint16(b, uint16(n))
	be.PutUint16(b[2:], uint16(n))
}

// record is one entry of a folder (ECMA-119, 9.1).
func record(name string, sector, size int, folder bool, made time.Time) []byte {
	r := make([]byte, roundUp(33+len(name), 2))
	r[0] = byte(len(r))
	both32(r[2:], sector)
	both32(r[10:], size)
	copy(r[18:], []byte{byte(made.Year() - 1900), byte(made.Month()), byte(made.Day()), byte(made.Hour()), byte(made.Minute()), byte(made.Second()), 0})
	if folder {
		r[25] = 2
	}
	both16(r[28:], 1)
	r[32] = byte(len(name))
	copy(r[33:], name)
	return r
}

// volume writes the descriptors and the path tables (ECMA-119, 8.4 and 9.4).
func (d Disc) volume(sector func(int) []byte, folders []string, sectors int) {
	var little, big []byte
	for i, dir := range folders {
		name := dir
		if name == "" {
			name = "\x00"
		}
		e := make([]byte, roundUp(8+len(name), 2))
		e[0] = byte(len(name))
		copy(e[8:], name)
		le.PutUint32(e[2:], uint32(sectorRoot+i))
		le.PutUint16(e[6:], 1)
		little = append(little, e...)
		be.PutUint32(e[2:], uint32(sectorRoot+i))
		be.PutUint16(e[6:], 1)
		big = append(big, e...)
	}
	copy(sector(sectorPathsLE), little)
	copy(sector(sectorPathsBE), big)

	v := sector(sectorPrimary)[:sectorSize]
	copy(v, "\x01CD001\x01")
	text := func(at, n int, s string) { copy(v[at:at+n], fmt.Sprintf("%-*s", n, s)) }
	text(8, 32, "")
	text(40, 32, d.Label)
	both32(v[80:], sectors)
	both16(v[120:], 1)
	both16(v[124:], 1)
	both16(v[128:], sectorSize)
	both32(v[132:], len(little))
	le.PutUint32(v[140:], sectorPathsLE)
	be.PutUint32(v[148:], sectorPathsBE)
	copy(v[156:], record("\x00", sectorRoot, sectorSize, true, d.Made))
	text(190, 128, "")
	text(318, 128, "")
	text(446, 128, "")
	text(574, 128, "HANAPER")
	text(702, 37*3, "")
	made := d.Made.Format("20060102150405") + "00\x00"
	none := "0000000000000000\x00"
	copy(v[813:], made+made+none+made)
	v[881] = 1

	copy(sector(sectorBoot), "\x00CD001\x01EL TORITO SPECIFICATION")
	le.PutUint32(sector(sectorBoot)[0x47:], sectorCatalog)
	copy(sector(sectorEnd), "\xffCD001\x01")
}

// catalog says what a BIOS and what a UEFI start from a CD.
func (d Disc) catalog(sector func(int) []byte, loader, fat int) {
	c := sector(sectorCatalog)
	c[0], c[30], c[31] = 1, 0x55, 0xaa
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += le.Uint16(c[i:])
	}
	le.PutUint16(c[28:], -sum)
	c[32] = 0x88
	le.PutUint16(c[38:], 4)
	le.PutUint32(c[40:], uint32(loader))
	c[64], c[65], c[66] = 0x91, 0xef, 1
	c[96] = 0x88
	// In sectors of 512 bytes. 0 is "to the end of the CD" (UEFI 2.10, 13.3.2.1).
	if n := len(d.FAT) / 512; n <= 0xffff {
		le.PutUint16(c[102:], uint16(n))
	}
	le.PutUint32(c[104:], uint32(fat))
}

// partitions makes the first sector that of a disk. Its first partition is all of it, without a type, for BIOSes that start
// only disks with an active partition; the second is the FAT volume.
func (d Disc) partitions(out []byte, loader, fat int) {
	copy(out, d.MBR)
	le.PutUint32(out[432:], uint32(loader*4))
	le.PutUint32(out[440:], 0x48414e41)
	entry := func(i int, active, kind byte, first, n int) {
		e := out[446+16*i:]
		e[0], e[4] = active, kind
		chs(e[1:], first)
		chs(e[5:], first+n-1)
		le.PutUint32(e[8:], uint32(first))
		le.PutUint32(e[12:], uint32(n))
	}
	entry(0, 0x80, 0, 0, len(out)/512)
	entry(1, 0, 0xef, fat*4, len(d.FAT)/512)
	out[510], out[511] = 0x55, 0xaa
}

// chs is a sector's place on a disk of 64 heads with 32 sectors a track.
func chs(b []byte, n int) {
	cylinder, head, sector := n/(64*32), n/32%64, n%32+1
	if cylinder > 1023 {
		cylinder, head, sector = 1023, 63, 32
	}
	b[0], b[1], b[2] = byte(head), byte(sector|cylinder>>8<<6), byte(cylinder)
}

// bootInfo is isolinux.bin with the table in it that says where it lies (mkisofs, "EL TORITO BOOT INFORMATION TABLE").
func bootInfo(loader []byte, sector int) []byte {
	b := padTo(bytes.Clone(loader), 4)
	var sum uint32
	for i := 64; i < len(b); i += 4 {
		sum += le.Uint32(b[i:])
	}
	clear(b[8:64])
	le.PutUint32(b[8:], sectorPrimary)
	le.PutUint32(b[12:], uint32(sector))
	le.PutUint32(b[16:], uint32(len(loader)))
	le.PutUint32(b[20:], sum)
	return b
}
