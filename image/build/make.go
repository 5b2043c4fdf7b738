package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/hanaper/hanaper/image/medium"
	"github.com/hanaper/hanaper/image/published"
	"github.com/hanaper/hanaper/internal/advice"
	"github.com/hanaper/hanaper/internal/input"
	"github.com/hanaper/hanaper/quorum"
)

type config struct {
	image, lock, packages, out string
	version                    string
	epoch                      int64
	program                    string
	anyCompiler                bool
}

// maxProgram bounds the program, in bytes.
const maxProgram = 256 << 20

// build makes the image, and says what it is.
func build(w io.Writer, c config) error {
	list, err := readLock(c.lock)
	if err != nil {
		return err
	}
	tools, err := toolsOf(c.program)
	if err != nil {
		return err
	}
	if err := c.compilers(w, tools); err != nil {
		return err
	}
	t, firmware, err := c.root(list)
	if err != nil {
		return err
	}
	program, err := input.Read(c.program, maxProgram)
	if err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	if err := t.add("/usr/bin/hanaper", node{data: program, run: true, origin: "hanaper"}); err != nil {
		return err
	}
	release := fmt.Sprintf("NAME=\"Hanaper ceremony image\"\nID=hanaper\nVERSION_ID=%q\nBUILD_ID=%d\n", c.version, c.epoch)
	for name, text := range map[string]string{"/usr/share/hanaper/version": c.version + "\n", "/etc/os-release": release} {
		if err := t.add(name, node{data: []byte(text), origin: "hanaper"}); err != nil {
			return err
		}
	}
	if err := t.complete(); err != nil {
		return err
	}
	manifest := t.manifest()
	if err := t.add("/usr/share/hanaper/manifest", node{data: manifest, origin: "hanaper"}); err != nil {
		return err
	}
	initrd, err := pack(t)
	if err != nil {
		return err
	}
	cmdline, err := input.ReadFile(filepath.Join(c.image, "cmdline"))
	if err != nil {
		return advice.Wrap(advice.Usage, err, "")
	}
	made := time.Unix(c.epoch, 0).UTC()
	files, pcrs, err := c.media(firmware, initrd, bytes.TrimSpace(cmdline), []byte(release), manifest, made)
	if err != nil {
		return err
	}
	p := published.Image{Format: published.Format, Version: c.version, Created: made, Files: map[string]published.File{}, PCRs: pcrs, Tools: tools}
	for name, data := range files {
		p.Files[name] = published.File{SHA256: quorum.Sum(data).String(), Size: int64(len(data))}
	}
	for _, l := range list {
		p.Packages = append(p.Packages, l.name+" "+l.version+" "+l.sha256)
	}
	if files["image.json"], err = p.Marshal(); err != nil {
		return err
	}
	if _, err := published.Parse("image.json", files["image.json"]); err != nil {
		return err
	}
	return c.write(w, files)
}

// root is the image's root, without what depends on the build's own program; and what firmware starts, by name.
func (c config) root(list []locked) (*tree, map[string][]byte, error) {
	rules, err := readContents(filepath.Join(c.image, "contents"))
	if err != nil {
		return nil, nil, err
	}
	t := &tree{files: map[string]node{}, folders: []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/media", "/etc/reader.conf.d", "/usr/bin", "/usr/lib", "/usr/lib64"}}
	firmware := map[string][]byte{}
	taken := map[string]bool{}
	for _, l := range list {
		kernel := kernelName.MatchString(l.name)
		of := rulesOf(rules, l.name)
		if len(of) == 0 {
			return nil, nil, advice.New(advice.Failed, lockAnew, "packages.lock has %s, of which contents takes nothing", l.name)
		}
		if err := held(c.packages, l); err != nil {
			return nil, nil, advice.Wrap(advice.KindOf(err), err, "bring the packages with: make image-packages")
		}
		files, err := readDeb(filepath.Join(c.packages, l.file()), func(name string) bool { return !kernel || wantOfKernel(name) })
		if err != nil {
			return nil, nil, err
		}
		if err := t.takeRules(l.name, files, of, firmware, taken); err != nil {
			return nil, nil, err
		}
		if kernel {
			err = t.addModules(l.name, files, filepath.Join(c.image, "modules"))
		}
		if err == nil {
			err = t.addCopyright(l.name, files)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for _, r := range rules {
		if !taken[r.pkg+" "+r.pattern] {
			return nil, nil, advice.New(advice.Failed, lockAnew, "packages.lock has no package %s, which contents names", r.pkg)
		}
	}
	applets, err := words(filepath.Join(c.image, "applets"))
	if err != nil {
		return nil, nil, err
	}
	for _, a := range applets {
		if err := t.add("/usr/bin/"+a, node{link: "/usr/bin/busybox", origin: "busybox-static"}); err != nil {
			return nil, nil, err
		}
	}
	for name, to := range map[string]string{"/bin": "/usr/bin", "/sbin": "/usr/bin", "/usr/sbin": "/usr/bin", "/lib": "/usr/lib", "/lib64": "/usr/lib64"} {
		if err := t.add(name, node{link: to, origin: "hanaper"}); err != nil {
			return nil, nil, err
		}
	}
	return t, firmware, t.addFolder(filepath.Join(c.image, "root"))
}

// rulesOf are those of a package. The kernel's stand for its newest version.
func rulesOf(rules []rule, pkg string) []rule {
	if kernelName.MatchString(pkg) {
		pkg = kernelPackage
	}
	return slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return r.pkg != pkg })
}

// wantOfKernel keeps the memory small: a kernel's package unpacks to 400 MB.
func wantOfKernel(name string) bool {
	for _, dir := range []string{"/drivers/usb/", "/drivers/hid/", "/drivers/scsi/", "/drivers/cdrom/", "/fs/", "/block/", "/crypto/", "/lib/", "/arch/"} {
		if strings.Contains(name, "/kernel"+dir) {
			return true
		}
	}
	return strings.HasPrefix(name, "/boot/vmlinuz-") || strings.HasSuffix(name, "/copyright")
}

func (t *tree) takeRules(pkg string, files deb, rules []rule, firmware map[string][]byte, taken map[string]bool) error {
	names := slices.Sorted(maps.Keys(files))
	for _, r := range rules {
		match := slices.DeleteFunc(slices.Clone(names), func(name string) bool { ok, _ := path.Match(r.pattern, name); return !ok })
		if len(match) == 0 || len(match) > 1 && r.to != "" {
			return advice.New(advice.Failed, "", "contents:%d: package %s has %d files %s", r.line, pkg, len(match), r.pattern)
		}
		for _, name := range match {
			if place, ok := strings.CutPrefix(r.to, boot); ok {
				firmware[place] = files[name].data
				continue
			}
			to := r.to
			if to == "" {
				to = name
			}
			if err := t.take(pkg, files, name, to); err != nil {
				return err
			}
		}
		taken[r.pkg+" "+r.pattern] = true
	}
	return nil
}

// addModules puts the modules into one folder, and writes in which order init loads them.
func (t *tree) addModules(pkg string, kernel deb, list string) error {
	want, err := words(list)
	if err != nil {
		return err
	}
	order, err := loadOrder(kernel, want)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, file := range order {
		place := "/usr/lib/modules/" + path.Base(file)
		fmt.Fprintln(&text, place)
		if err := t.add(place, node{data: kernel[file].data, origin: pkg}); err != nil {
			return err
		}
	}
	return t.add("/etc/modules", node{data: []byte(text.String()), origin: "hanaper"})
}

// addCopyright takes what the package says of its licence; some say it in the package that they are made from.
func (t *tree) addCopyright(pkg string, files deb) error {
	doc := "/usr/share/doc/" + pkg
	if f := files[doc]; f.link != "" {
		return nil
	}
	name := doc + "/copyright"
	f, ok := files[name]
	if !ok {
		return advice.New(advice.Failed, "", "package %s has no %s", pkg, name)
	}
	if f.link != "" {
		return nil
	}
	return t.add(name, node{data: f.data, origin: pkg})
}

// pack is the tree as the kernel is given it. The compressor is a library that go.sum holds, for a host's program would be another one
// elsewhere; it works on one core, so that the number of cores changes nothing.
func pack(t *tree) ([]byte, error) {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(32<<20))
	if err != nil {
		return nil, err
	}
	if err := t.archive(z); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// media are the files that are started, and what a TPM says of the unified one.
func (c config) media(firmware map[string][]byte, initrd, cmdline, release, manifest []byte, made time.Time) (map[string][]byte, map[string]string, error) {
	kernel := firmware["vmlinuz"]
	parts := []medium.Part{{Name: ".osrel", Data: release}, {Name: ".cmdline", Data: cmdline}, {Name: ".linux", Data: kernel}, {Name: ".initrd", Data: initrd}}
	efi, offsets, err := medium.Unified(firmware["stub"], parts)
	if err != nil {
		return nil, nil, err
	}
	pcrs, err := medium.PCRs(efi, parts)
	if err != nil {
		return nil, nil, err
	}
	digest := sha256.Sum256(efi)
	fat, at, err := medium.FAT("HANAPER EFI", uint32(digest[0])<<24|uint32(digest[1])<<16|uint32(digest[2])<<8|uint32(digest[3]), made, "EFI/BOOT/BOOTX64.EFI", efi)
	if err != nil {
		return nil, nil, err
	}
	start, err := input.ReadFile(filepath.Join(c.image, "isolinux.cfg"))
	if err != nil {
		return nil, nil, advice.Wrap(advice.Usage, err, "")
	}
	disc := medium.Disc{Label: "HANAPER", Made: made, MBR: firmware["isohdpfx.bin"], Loader: firmware["isolinux.bin"], FAT: fat, Files: []medium.DiscFile{
		{Path: "ISOLINUX/ISOLINUX.CFG", Data: bytes.ReplaceAll(start, []byte("@CMDLINE@"), cmdline)},
		{Path: "ISOLINUX/LDLINUX.C32", Data: firmware["ldlinux.c32"]},
		{Path: "MANIFEST", Data: manifest},
		{Path: "VMLINUZ", Data: kernel, Inside: true, Offset: at + offsets[2]},
		{Path: "INITRD", Data: initrd, Inside: true, Offset: at + offsets[3]},
		{Path: "EFI/BOOTX64.EFI", Data: efi, Inside: true, Offset: at},
	}}
	iso, err := disc.Image()
	if err != nil {
		return nil, nil, err
	}
	return map[string][]byte{"hanaper.iso": iso, "hanaper.efi": efi, "vmlinuz": kernel, "initrd": initrd, "cmdline": append(cmdline, '\n'), "manifest": manifest}, pcrs, nil
}

// write puts the files and their digests into the folder, and says them aloud.
func (c config) write(w io.Writer, files map[string][]byte) error {
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	var sums strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&sums, "%s  %s\n", quorum.Sum(files[name]), name)
		if err := os.WriteFile(filepath.Join(c.out, name), files[name], 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(c.out, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		return err
	}
	for _, name := range []string{"hanaper.iso", "hanaper.efi"} {
		d := quorum.Sum(files[name])
		fmt.Fprintf(w, "%s  %.1f MB\n  SHA-256 %s\n  %s\n", name, float64(len(files[name]))/1e6, d, d.Words())
	}
	return nil
}
