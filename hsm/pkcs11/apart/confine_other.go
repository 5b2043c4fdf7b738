//go:build !linux

package apart

import (
	"errors"
	"os"
	"os/exec"
)

var errSystem = errors.New("a library runs apart on Linux only: set apart to false")

func confine() (string, error)                  { return "", errSystem }
func prepare(*exec.Cmd)                         {}
func pair() (parent, child *os.File, err error) { return nil, nil, errSystem }
func end(p *os.Process)                         { _ = p.Kill() }

func harden() {}
