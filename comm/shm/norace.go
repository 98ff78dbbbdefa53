//go:build !race

package shm

// raceEnabled tells that the race detector watches. It does not see that the words in shared memory order things, so
// the engine then says the same by a word that it does see.
const raceEnabled = false
