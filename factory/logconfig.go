package factory

import (
	"errors"
	"fmt"

	"github.com/hanaper/hanaper/hsm"
)

// LogConfig is the section about the issuance log.
type LogConfig struct {
	Folder       string             `yaml:"folder"`
	Key          string             `yaml:"key"`
	Verifier     string             `yaml:"verifier"`
	Witnesses    []LogWitnessConfig `yaml:"witnesses"`
	Cosignatures int                `yaml:"cosignatures"`

	key hsm.URI
}

// LogWitnessConfig names a witness of the issuance log.
type LogWitnessConfig struct {
	Key string `yaml:"key"`
	URL string `yaml:"url"`
}

// URI is that of the checkpoint key.
func (l *LogConfig) URI() hsm.URI { return l.key }

func (l *LogConfig) check(issuing hsm.URI) (err error) {
	if l.Folder == "" || l.Key == "" {
		return errors.New("log.folder or log.key is missing")
	}
	if l.key, err = hsm.ParseURI(l.Key); err != nil {
		return fmt.Errorf("log.key: %w", err)
	}
	// A key is named within its token; what names it in other stores is the whole URI.
	if l.key.Opaque == "" && l.key.Object == "" && len(l.key.ID) == 0 {
		return errors.New("log.key names no object")
	}
	if l.key.String() == issuing.String() {
		return errors.New("log.key is the issuing key; the log needs a key of its own")
	}
	return nil
}
