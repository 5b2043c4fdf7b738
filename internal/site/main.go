// The program site makes a static site of the project's own pages: README.md and everything below docs/. It needs no server and no
// network, neither to be made nor to be read: the pages are plain files, and the search is one script with its index beside it.
//
//	go run ./internal/site -out FOLDER [-pictures FOLDER]
//
// It reads the project's own files only, and writes below -out.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", ".", "the project's folder")
	out := flag.String("out", "", "write to this new or empty folder")
	pictures := flag.String("pictures", "", "a folder with PNG files: the printed form and record")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "site: -out FOLDER is needed, and nothing else")
		os.Exit(2)
	}
	if err := build(*root, *out, *pictures); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}
