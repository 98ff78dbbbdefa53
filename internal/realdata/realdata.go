// Package realdata finds the real data sets that tests read, in the folder that $COVEY_DATA names.
package realdata

import (
	"os"
	"path/filepath"
	"testing"
)

// Path is one data set. Without $COVEY_DATA it skips the test, but not where CI is set: there the data must be.
func Path(t testing.TB, name string) string {
	t.Helper()
	if os.Getenv("COVEY_DATA") == "" && os.Getenv("CI") != "true" {
		t.Skip("COVEY_DATA is not set: no real data to read")
	}
	return Need(t, name)
}

// Need is Path that never skips.
func Need(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("COVEY_DATA")
	if dir == "" {
		t.Fatal("COVEY_DATA is not set: the folder with mnist, a9a, uci-small, california-housing and the rest")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}
