//go:build !race

package reduce

// raced tells the tests whether the race detector is on.
const raced = false
