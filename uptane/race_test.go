//go:build race

package uptane

// slowdown is what the race detector costs.
const slowdown = 10
