package train

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Who looked at a run folder, and stood still before it took it, finds it taken, however many have taken it meanwhile.
func TestFolderIsTakenInTurn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[r]")
	before, err := lastWriter(dir)
	if err != nil || before != 0 {
		t.Fatalf("a folder that is not there was taken by %d, %v", before, err)
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, WriterFile+"x"), nil, 0o666); err != nil { // of somebody else's making
		t.Fatal(err)
	}
	var all []*fence
	for n := range 3 {
		last, err := lastWriter(dir)
		if err != nil || last != n {
			t.Fatalf("taken by %d, %v, after %d", last, err, n)
		}
		f, err := takeFolder(dir, last)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
		for old := range n + 1 {
			if _, err := takeFolder(dir, old); !errors.Is(err, ErrOvertaken) {
				t.Errorf("number %d was taken, and then number %d: %v", n+1, old+1, err)
			}
		}
		for k, f := range all {
			switch err := f.check(); {
			case k == n && err != nil:
				t.Errorf("who took it last, as number %d: %v", k+1, err)
			case k < n && (!errors.Is(err, ErrOvertaken) || !strings.Contains(err.Error(), dir)):
				t.Errorf("number %d, after number %d: %v", k+1, n+1, err)
			}
		}
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*", WriterFile+"[0-9]*"))
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != WriterFile+"3" {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
