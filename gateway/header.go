package gateway

import "strings"

// validHeaderName keeps our own headers to letters, digits and hyphens.
func validHeaderName(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		name[0] != '-' && name[len(name)-1] != '-'
}
