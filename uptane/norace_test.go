//go:build !race

package uptane

const slowdown = 1
