package medium

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Layout of the FAT volume, in sectors of 512 bytes ("FAT: General Overview of On-Disk Format", Microsoft, 1.03). Its data begin at
// a multiple of a CD's sector.
const (
	fatSector   = 512
	fatCluster  = 2048
	fatReserved = 4
	fatRoot     = 64 // entries of 32 bytes: 4 sectors
	fatMedia    = 0xf8
)

// FAT is a FAT16 volume that holds one file, at a path of 8.3 names in capital letters such as EFI/BOOT/BOOTX64.EFI; offset is where in the
// volume the file's bytes begin. They are in one piece.
func FAT(label string, serial uint32, made time.Time, path string, file []byte) (volume []byte, offset int, err error) {
	names := strings.Split(path, "/")
	folders := len(names) - 1
	clusters := max(folders+roundUp(len(file), fatCluster)/fatCluster, 4096) // fewer would be FAT12
	if clusters > 65000 || len(label) > 11 {
		return nil, 0, fmt.Errorf("a file of %d bytes is too large for FAT16, or the label %q too long", len(file), label)
	}
	table := roundUp(2*(clusters+2), fatCluster)
	root := fatReserved*fatSector + 2*table
	data := root + fatRoot*32
	volume = make([]byte, data+clusters*fatCluster)
	copy(volume, "\xeb\x3c\x90HANAPER ")
	le.PutUint16(volume[11:], fatSector)
	volume[13] = fatCluster / fatSector
	le.PutUint16(volume[14:], fatReserved)
	volume[16] = 2
	le.PutUint16(volume[17:], fatRoot)
	volume[21] = fatMedia
	le.PutUint16(volume[22:], uint16(table/fatSector))
	le.PutUint16(volume[24:], 32)
	le.PutUint16(volume[26:], 64)
	le.PutUint32(volume[32:], uint32(len(volume)/fatSector))
	volume[36], volume[38] = 0x80, 0x29
	le.PutUint32(volume[39:], serial)
	copy(volume[43:], fmt.Sprintf("%-11s%-8s", label, "FAT16"))
	volume[510], volume[511] = 0x55, 0xaa

	chain := make([]byte, table)
	le.PutUint16(chain, 0xff00|fatMedia)
	le.PutUint16(chain[2:], 0xffff)
	// take marks n clusters, one after the other, as one chain.
	next := 2
	take := func(n int) (first int) {
		first = next
		for ; next < first+n-1; next++ {
			le.PutUint16(chain[2*next:], uint16(next+1))
		}
		le.PutUint16(chain[2*next:], 0xffff)
		next++
		return first
	}
	at := func(cluster int) int { return data + (cluster-2)*fatCluster }
	put := func(where int, name string, kind byte, cluster, size int) {
		e := volume[where : where+32]
		base, ext, _ := strings.Cut(name, ".")
		if name == "." || name == ".." || kind == 8 {
			base, ext = name, ""
		}
		copy(e[:11], fmt.Sprintf("%-8s%-3s", base, ext))
		e[11] = kind
		le.PutUint16(e[22:], uint16(made.Hour()<<11|made.Minute()<<5|made.Second()/2))
		le.PutUint16(e[24:], uint16((made.Year()-1980)<<9|int(made.Month())<<5|made.Day()))
		copy(e[14:18], e[22:26])
		copy(e[18:20], e[24:26])
		le.PutUint16(e[26:], uint16(cluster))
		le.PutUint32(e[28:], uint32(size))
	}
	put(root, fmt.Sprintf("%-11s", label), 8, 0, 0)
	where, parent := root+32, 0
	for _, name := range names[:folders] {
		c := take(1)
		put(where, name, 0x10, c, 0)
		put(at(c), ".", 0x10, c, 0)
		put(at(c)+32, "..", 0x10, parent, 0)
		where, parent = at(c)+64, c
	}
	first := take(max(1, roundUp(len(file), fatCluster)/fatCluster))
	put(where, names[folders], 0x20, first, len(file))
	copy(volume[at(first):], file)
	copy(volume[fatReserved*fatSector:], bytes.Repeat(chain, 2))
	return volume, at(first), nil
}
