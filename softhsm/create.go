package softhsm

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/hanaper/hanaper/hsm/pkcs11"
	"github.com/hanaper/hanaper/internal/advice"
)

// environment guards the process's SOFTHSM2_CONF while a token is made.
var environment sync.Mutex

// initialise makes the token through PKCS#11, in this process: softhsm2-util would take the PINs as arguments, which
// every user of the machine can read.
func (s *Store) initialise(label string, soPIN, pin []byte) (serial string, err error) {
	module, err := Module()
	if err != nil {
		return "", err
	}
	environment.Lock()
	defer environment.Unlock()
	before, was := os.LookupEnv(ConfigVariable)
	if before != s.Config() {
		if pkcs11.InUse(module) {
			return "", advice.New(advice.Usage, "call Store.Use before the first token is opened",
				"softhsm: this process already uses tokens of another store than %s", s.dir)
		}
		if err := s.Use(); err != nil {
			return "", err
		}
		defer func() {
			if was {
				_ = os.Setenv(ConfigVariable, before)
			} else {
				_ = os.Unsetenv(ConfigVariable)
			}
		}()
	}
	info, err := pkcs11.Init(context.Background(), module, "", label, soPIN, pin)
	if err != nil {
		return "", err
	}
	return info.Serial, os.WriteFile(filepath.Join(s.dir, fileName(label)+".serial"), []byte(info.Serial+"\n"), 0o600)
}
