package main

import (
	"os"
	"os/exec"
	"strings"

	"github.com/hanaper/hanaper/internal/programtest"
)

// The program stretches a passphrase by 600,000 rounds, and takes whatever number a key file says. Under the race detector that
// is eight seconds for each use of a key, so tests use files with few rounds. They are openssl's work: the program has no way to
// write one.

// keyFile makes a key file: "ED25519", or the name of a curve.
func (d desk) keyFile(name, algorithm string) {
	d.Helper()
	how := []string{"genpkey", "-algorithm", algorithm}
	if strings.HasPrefix(algorithm, "P-") {
		how = []string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" + algorithm}
	}
	d.openssl(append(how, "-out", d.path(name+".plain"))...)
	d.openssl("pkcs8", "-topk8", "-in", d.path(name+".plain"), "-v2", "aes-256-cbc", "-iter", "1000", "-passout", "file:"+d.path("passphrase"), "-out", d.path(name+".key"))
	if err := os.Remove(d.path(name + ".plain")); err != nil {
		d.Fatal(err)
	}
}

// fewRounds writes a key file anew, with the same key.
func (d desk) fewRounds(name string) {
	d.Helper()
	// Of one file openssl would read two lines.
	path, again := d.path(name+".key"), d.write("passphrase-again", d.read("passphrase"))
	d.openssl("pkcs8", "-topk8", "-in", path, "-passin", "file:"+d.path("passphrase"), "-v2", "aes-256-cbc", "-iter", "1000", "-passout", "file:"+again, "-out", path+".few")
	if err := os.Rename(path+".few", path); err != nil {
		d.Fatal(err)
	}
}

func (d desk) openssl(args ...string) {
	d.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		d.Fatalf("openssl (apt-get install openssl) %s: %v\n%s", args[0], err, out)
	}
}

// program runs the program itself, in a process of its own.
func (d desk) program(args ...string) string {
	d.Helper()
	out, err := exec.Command(programtest.Path(d, "hanaper"), args...).CombinedOutput()
	if err != nil {
		d.Fatalf("hanaper %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
