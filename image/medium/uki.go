package medium

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/hex"
	"errors"
	"fmt"
)

// Part is a named section of a unified kernel image.
type Part struct {
	Name string // ".linux"
	Data []byte
}

// sectorSize is that of a CD. Sections begin at its multiples, so that a CD's directory can name them as files of their own.
const sectorSize = 2048

// page is what sections are aligned to in memory, in bytes.
const page = 4096

// Where fields lie, from the begin of the PE header (PE format, Microsoft, "Optional Header Windows-Specific Fields").
const (
	peTimeStamp     = 8
	peSections      = 6
	peOptional      = 24
	peSizeOfImage   = peOptional + 56
	peSizeOfHeaders = peOptional + 60
	peChecksum      = peOptional + 64
	peDirectories   = peOptional + 112
	peCertificates  = peDirectories + 4*8
	sectionHeader   = 40
)

// Unified appends the parts to systemd's stub, in their order, and says at which offset each begins.
func Unified(stub []byte, parts []Part) (image []byte, offsets []int, err error) {
	f, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return nil, nil, fmt.Errorf("the stub is no PE file: %w", err)
	}
	opt, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || opt.SectionAlignment > page || opt.NumberOfRvaAndSizes < 5 {
		return nil, nil, errors.New("the stub is no PE file as expected: 64 bits, aligned to pages at most, with a place for signatures")
	}
	head := int(le.Uint32(stub[0x3c:]))
	table := head + peOptional + int(f.SizeOfOptionalHeader)
	next := table + sectionHeader*len(f.Sections)
	if next+sectionHeader*len(parts) > int(opt.SizeOfHeaders) {
		return nil, nil, fmt.Errorf("the stub's header has no room for %d more sections", len(parts))
	}
	end := 0
	for _, s := range f.Sections {
		end = max(end, int(s.Offset+s.Size))
	}
	image = bytes.Clone(stub[:end]) // symbols behind the sections are left out
	address := roundUp(int(opt.SizeOfImage), page)
	// A gap between sections would be hashed by some firmware and not by other: the section before grows.
	grow := func(lastHeader int) {
		padded := padTo(image, sectorSize)
		le.PutUint32(padded[lastHeader+16:], le.Uint32(padded[lastHeader+16:])+uint32(len(padded)-len(image)))
		image = padded
	}
	last := table
	for i := range f.Sections {
		if h := table + sectionHeader*i; le.Uint32(stub[h+20:]) > le.Uint32(stub[last+20:]) {
			last = h
		}
	}
	for i, p := range parts {
		grow(last)
		last = next + sectionHeader*i
		h := image[last : last+sectionHeader]
		if !bytes.Equal(h, make([]byte, sectionHeader)) || len(p.Name) > 8 || len(p.Data) == 0 {
			return nil, nil, fmt.Errorf("section %s: it is empty, or there is no room for it", p.Name)
		}
		copy(h, p.Name)
		le.PutUint32(h[8:], uint32(len(p.Data)))
		le.PutUint32(h[12:], uint32(address))
		le.PutUint32(h[16:], uint32(len(p.Data)))
		le.PutUint32(h[20:], uint32(len(image)))
		le.PutUint32(h[36:], 0x40000040) // readable, initialised data
		offsets = append(offsets, len(image))
		image = append(image, p.Data...)
		address += roundUp(len(p.Data), page)
	}
	grow(last)
	le.PutUint16(image[head+peSections:], uint16(len(f.Sections)+len(parts)))
	le.PutUint32(image[head+peTimeStamp:], 0)
	le.PutUint64(image[head+peTimeStamp+4:], 0) // the symbols that were left out
	le.PutUint32(image[head+peSizeOfImage:], uint32(address))
	le.PutUint32(image[head+peChecksum:], 0)
	return image, offsets, nil
}

// Authenticode is the SHA-256 that firmware measures of a PE file when it starts it (Windows Authenticode Portable Executable
// Signature Format, 1.0): all but the checksum and what concerns signatures.
func Authenticode(image []byte) ([32]byte, error) {
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return [32]byte{}, fmt.Errorf("not a PE file: %w", err)
	}
	head := int(le.Uint32(image[0x3c:]))
	certificates := head + peCertificates
	if _, ok := f.OptionalHeader.(*pe.OptionalHeader64); !ok {
		certificates -= 16 // addresses of 32 bits
	}
	size := int(le.Uint32(image[certificates+4:])) // of the signatures, which end the file
	if size > len(image) {
		return [32]byte{}, errors.New("not a PE file: its signatures are longer than it is")
	}
	h := sha256.New()
	h.Write(image[:head+peChecksum])
	h.Write(image[head+peChecksum+4 : certificates])
	h.Write(image[certificates+8 : len(image)-size])
	return [32]byte(h.Sum(nil)), nil
}

// PCRs are what the PCRs of a TPM's SHA-256 bank hold after firmware started the unified image, by number, in hexadecimal.
//
//   - 11 (systemd-stub, "TPM PCR Notes"): of each part its name, ended by a zero byte, and its bytes. .linux comes first.
//   - 4 (TCG PC Client Platform Firmware Profile, 3.3.4.5): the action, the separator, the image, and the kernel in it, which the stub starts
//     through the firmware.
//   - 12 and 13 (systemd-stub): nothing. What somebody gave the stub besides, as another command line or as files beside the image, would be there.
func PCRs(image []byte, parts []Part) (map[string]string, error) {
	stub, err := Authenticode(image)
	if err != nil {
		return nil, err
	}
	var eleven, four [32]byte
	extend := func(pcr *[32]byte, digest [32]byte) { *pcr = sha256.Sum256(append(pcr[:], digest[:]...)) }
	for _, name := range []string{".linux", ".osrel", ".cmdline", ".initrd"} {
		for _, p := range parts {
			if p.Name != name {
				continue
			}
			extend(&eleven, sha256.Sum256(append([]byte(name), 0)))
			extend(&eleven, sha256.Sum256(p.Data))
			if name == ".linux" {
				kernel, err := Authenticode(p.Data)
				if err != nil {
					return nil, fmt.Errorf("the kernel: %w", err)
				}
				extend(&four, sha256.Sum256([]byte("Calling EFI Application from Boot Option")))
				extend(&four, sha256.Sum256(make([]byte, 4)))
				extend(&four, stub)
				extend(&four, kernel)
			}
		}
	}
	none := hex.EncodeToString(make([]byte, 32))
	return map[string]string{"4": hex.EncodeToString(four[:]), "11": hex.EncodeToString(eleven[:]), "12": none, "13": none}, nil
}
