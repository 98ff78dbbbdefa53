//go:build race

package comm

// RaceEnabled tells the tests whether the race detector is on.
const RaceEnabled = true
