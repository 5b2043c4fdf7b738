//go:build !cgo

package main

import (
	"context"

	"github.com/hanaper/hanaper/hsm"
)

// openToken of the program for a virtual machine, which is one file and loads no library.
func openToken(ctx context.Context, uri hsm.URI) (hsm.Token, error) { return openTPM(ctx, uri) }
