package medium_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hanaper/hanaper/image/medium"
)

var made = time.Date(2026, 11, 27, 3, 4, 6, 0, time.UTC)

// noise is data that looks like no other.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

const stubFile = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// parts are those of an image; the stub itself stands for the kernel, which is a PE file, too.
func parts(t *testing.T) []medium.Part {
	return []medium.Part{{Name: ".osrel", Data: []byte("ID=hanaper\n")}, {Name: ".cmdline", Data: []byte("quiet")},
		{Name: ".linux", Data: read(t, stubFile)}, {Name: ".initrd", Data: noise(1, 70001)}}
}

// TestUnified: binutils finds each part as it was, pesign computes the digest that we compute, and each part begins at a CD's sector.
func TestUnified(t *testing.T) {
	all := parts(t)
	image, offsets, err := medium.Unified(read(t, stubFile), all)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, image)
	for i, p := range all {
		out := filepath.Join(t.TempDir(), "part")
		run(t, "objcopy", "--dump-section", p.Name+"="+out, file, filepath.Join(t.TempDir(), "copy"))
		if got := read(t, out); !bytes.HasPrefix(got, p.Data) || len(bytes.Trim(got[len(p.Data):], "\x00")) != 0 {
			t.Errorf("binutils read another %s", p.Name)
		}
		if offsets[i]%2048 != 0 || !bytes.HasPrefix(image[offsets[i]:], p.Data) {
			t.Errorf("%s is not at %d", p.Name, offsets[i])
		}
	}
	for _, f := range []string{file, stubFile} {
		want, err := medium.Authenticode(read(t, f))
		if err != nil {
			t.Fatal(err)
		}
		if said := run(t, "pesign", "-h", "-i", f); !strings.Contains(said, hex.EncodeToString(want[:])) {
			t.Errorf("Authenticode(%s) = %x; pesign says %s", f, want, said)
		}
	}
	if again, _, _ := medium.Unified(read(t, stubFile), all); !bytes.Equal(again, image) {
		t.Error("the second image is another one")
	}
}

// TestPCRs: a changed byte of any part changes PCR 11. That the values are those of firmware and stub is held by the image's own test.
func TestPCRs(t *testing.T) {
	values := func(all []medium.Part) map[string]string {
		image, _, err := medium.Unified(read(t, stubFile), all)
		if err != nil {
			t.Fatal(err)
		}
		pcrs, err := medium.PCRs(image, all)
		if err != nil {
			t.Fatal(err)
		}
		return pcrs
	}
	want := values(parts(t))
	for i := range parts(t) {
		all := parts(t)
		all[i].Data[len(all[i].Data)-1]++
		if got := values(all); got["11"] == want["11"] || got["4"] == want["4"] || got["12"] != strings.Repeat("0", 64) {
			t.Errorf("%s changed: %v, want others than %v", all[i].Name, got, want)
		}
	}
}

// TestUnifiedRefuses: what is not shaped as expected makes no image.
func TestUnifiedRefuses(t *testing.T) {
	stub := read(t, stubFile)
	many := make([]medium.Part, 40)
	for i := range many {
		many[i] = medium.Part{Name: ".x", Data: []byte{1}}
	}
	for name, c := range map[string]struct {
		stub  []byte
		parts []medium.Part
		want  string
	}{
		"no PE file":    {noise(2, 4096), parts(t), "no PE file"},
		"a stub cut":    {stub[:200], parts(t), "no PE file"},
		"too many":      {stub, many, "no room for 40 more sections"},
		"an empty part": {stub, []medium.Part{{Name: ".cmdline"}}, "it is empty"},
		"a long name":   {stub, []medium.Part{{Name: ".commandline", Data: []byte{1}}}, "no room for it"},
	} {
		if image, _, err := medium.Unified(c.stub, c.parts); err == nil || image != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want %q", name, len(image), err, c.want)
		}
	}
}

// TestFAT: dosfstools finds nothing to mend, and mtools reads the file that was put in, at sizes around a cluster's.
func TestFAT(t *testing.T) {
	for _, n := range []int{1, 2047, 2048, 2049, 9 << 20} {
		file := noise(uint64(n), n)
		volume, at, err := medium.FAT("HANAPER EFI", 0x12345678, made, "EFI/BOOT/BOOTX64.EFI", file)
		if err != nil {
			t.Fatal(err)
		}
		if at%2048 != 0 || !bytes.HasPrefix(volume[at:], file) {
			t.Errorf("%d bytes are not at %d", n, at)
		}
		path := write(t, volume)
		run(t, "fsck.vfat", "-n", path)
		out := filepath.Join(t.TempDir(), "out")
		run(t, "mcopy", "-i", path, "::EFI/BOOT/BOOTX64.EFI", out)
		if !bytes.Equal(read(t, out), file) {
			t.Errorf("mtools read another file of %d bytes", n)
		}
		if said := run(t, "mdir", "-i", path, "::EFI/BOOT"); !strings.Contains(said, "2026-11-27   3:04") || !strings.Contains(said, "HANAPER EFI") {
			t.Errorf("mtools says\n%s", said)
		}
	}
	if _, _, err := medium.FAT("HANAPER EFI", 1, made, "A", make([]byte, 140<<20)); err == nil {
		t.Error("a file that is too large for FAT16 was taken")
	}
}

func disc(t *testing.T) (medium.Disc, map[string][]byte) {
	volume, at, err := medium.FAT("HANAPER EFI", 1, made, "EFI/BOOT/BOOTX64.EFI", noise(3, 8192))
	if err != nil {
		t.Fatal(err)
	}
	d := medium.Disc{Label: "HANAPER", Made: made, FAT: volume,
		MBR: read(t, "/usr/lib/ISOLINUX/isohdpfx.bin"), Loader: read(t, "/usr/lib/ISOLINUX/isolinux.bin"),
		Files: []medium.DiscFile{
			{Path: "ISOLINUX/ISOLINUX.CFG", Data: []byte("DEFAULT x\n")},
			{Path: "MANIFEST", Data: noise(4, 2049)},
			{Path: "EFI/BOOTX64.EFI", Data: noise(3, 8192), Inside: true, Offset: at},
			{Path: "INITRD", Data: noise(3, 8192)[2048:5000], Inside: true, Offset: at + 2048},
		}}
	want := map[string][]byte{}
	for _, f := range d.Files {
		want[f.Path] = f.Data
	}
	return d, want
}

// TestDisc: xorriso reads each file as it was, and where a BIOS and a UEFI start; a partition table's reader finds the FAT volume.
func TestDisc(t *testing.T) {
	d, want := disc(t)
	image, err := d.Image()
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, image)
	for name, data := range want {
		out := filepath.Join(t.TempDir(), "out")
		run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/"+name, out)
		if !bytes.Equal(read(t, out), data) {
			t.Errorf("xorriso read another %s", name)
		}
	}
	said := run(t, "xorriso", "-indev", path, "-report_el_torito", "plain")
	for _, words := range []string{"Volume id    : 'HANAPER'", "El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4", "El Torito boot img :   2  UEFI  y   none"} {
		if !strings.Contains(said, words) {
			t.Errorf("xorriso does not say %q, but\n%s", words, said)
		}
	}
	var table struct {
		Table struct {
			Partitions []struct {
				Start, Size int
				Type        string
			} `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "--json", path)), &table); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range table.Table.Partitions {
		found = found || p.Type == "ef" && bytes.Equal(image[p.Start*512:(p.Start+p.Size)*512], d.FAT)
	}
	if !found || len(image)%(1<<20) != 0 {
		t.Errorf("%d bytes, partitions %+v: the FAT volume is none of them", len(image), table.Table.Partitions)
	}
	if again, _ := d.Image(); !bytes.Equal(again, image) {
		t.Error("the second image is another one")
	}
}

// TestDiscRefuses: a loader that is another one, and files that do not fit, make no image.
func TestDiscRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*medium.Disc)
		want   string
	}{
		"another loader":   {func(d *medium.Disc) { d.Loader = noise(5, 4096) }, "the package is another one"},
		"another MBR":      {func(d *medium.Disc) { d.MBR = d.MBR[:431] }, "the package is another one"},
		"not at a sector":  {func(d *medium.Disc) { d.Files[2].Offset++ }, "is not where it is said to be"},
		"not in the FAT":   {func(d *medium.Disc) { d.Files[2].Data = noise(6, 8192) }, "is not where it is said to be"},
		"too many entries": {func(d *medium.Disc) { d.Files = append(d.Files, many()...) }, "too many files"},
	} {
		d, _ := disc(t)
		c.change(&d)
		if image, err := d.Image(); err == nil || image != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want %q", name, len(image), err, c.want)
		}
	}
}

func many() (list []medium.DiscFile) {
	for i := range 60 {
		list = append(list, medium.DiscFile{Path: "X" + strings.Repeat("Y", i%20) + string(rune('A'+i%26)), Data: []byte{1}})
	}
	return list
}
