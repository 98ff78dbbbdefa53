// Package python finds the Python programs that integration tests compare with.
package python

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// With returns an interpreter that can import the modules, written as after import. It fails the test when there is
// none: integration/setup.sh, which make integration runs, installs them all.
func With(t testing.TB, modules string) string {
	t.Helper()
	tried := []string{os.Getenv("COVEY_PYTHON"), "python3", "/usr/bin/python3"}
	if home, err := os.UserCacheDir(); err == nil {
		tried = append(tried, filepath.Join(home, "covey-python", "bin", "python3"))
	}
	for _, p := range tried {
		if p != "" && exec.Command(p, "-c", "import "+modules).Run() == nil {
			return p
		}
	}
	t.Fatalf("no python3 has %s: run integration/setup.sh, or set COVEY_PYTHON to an interpreter that has them", modules)
	return ""
}
