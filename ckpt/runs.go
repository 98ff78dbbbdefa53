package ckpt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// StepDir is the folder of one step's checkpoint in a run folder, which is a path or a URL.
func StepDir(run string, step int) string {
	return within(run, folderName, "step-"+strconv.Itoa(step))
}

// folderName is the folder, in a run's, that holds its checkpoints.
const folderName = "checkpoints"

// Entry is a checkpoint of a run folder. List has not opened it.
type Entry struct {
	Path string
	Step int
}

// List returns a run folder's checkpoints by step, oldest first; none when there is no such folder. run is a path or a URL.
func List(run string) (all []Entry, err error) {
	err = on(run, func(p place) error {
		all, err = list(p.fs, filepath.Join(p.name, folderName))
		for i := range all {
			all[i].Path = p.path(all[i].Path)
		}
		return err
	})
	return all, err
}

// list lists the checkpoints in a folder of them. In an object store a folder without a manifest is none.
func list(fs fsys, parent string) ([]Entry, error) {
	names, err := fs.List(parent)
	if err != nil {
		return nil, err
	}
	numbers := map[string]int{}
	var out []Entry
	for _, name := range names {
		step, number, ok := stepName(fs, name)
		if !ok {
			continue
		}
		base := strings.TrimSuffix(name, oldSuffix)
		if base != name && slices.Contains(names, base) {
			continue
		}
		path := filepath.Join(parent, base)
		if fs.Objects() {
			whole, err := fs.Exists(filepath.Join(path, ManifestFile))
			if err != nil {
				return nil, err
			}
			if !whole {
				continue
			}
			numbers[path] = number
		}
		out = append(out, Entry{Path: path, Step: step})
	}
	slices.SortFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(numbers[a.Path], numbers[b.Path]))
	})
	return out, nil
}

// stepName reads the name of a step's folder, which on a disk may have stepped aside and in an object store have a
// number.
func stepName(fs fsys, name string) (step, number int, ok bool) {
	number = 1
	if fs.Objects() {
		name, number = numbered(name)
	} else {
		name = strings.TrimSuffix(name, oldSuffix)
	}
	digits, ok := strings.CutPrefix(name, "step-")
	step, err := strconv.Atoi(digits)
	return step, number, ok && err == nil && step >= 0 && strconv.Itoa(step) == digits
}

// ErrNone is returned, wrapped, by Latest when a run folder has no whole checkpoint.
var ErrNone = errors.New("no whole checkpoint")

// Latest returns the newest whole checkpoint of a run folder, and for each newer one that it passed over, newest first,
// what is wrong with it: worth telling the user, and no reason to stop. When none is whole, err wraps ErrNone and says
// the same of all.
func Latest(run string) (path string, passed []error, err error) {
	err = on(run, func(p place) error {
		path, passed, err = latest(p.fs, p.name)
		if err == nil {
			path = p.path(path)
		}
		return err
	})
	return path, passed, err
}

func latest(fs fsys, runDir string) (string, []error, error) {
	all, err := list(fs, filepath.Join(runDir, folderName))
	if err != nil {
		return "", nil, err
	}
	var passed []error
	for _, e := range slices.Backward(all) {
		if _, err := verify(fs, e.Path); err != nil {
			passed = append(passed, err)
			continue
		}
		return e.Path, passed, nil
	}
	if len(all) == 0 {
		return "", nil, fmt.Errorf("run folder %s: %w", runDir, ErrNone)
	}
	return "", nil, fmt.Errorf("run folder %s: %w: %w", runDir, ErrNone, errors.Join(passed...))
}

// Prune removes the older checkpoints of a run folder and returns the paths it removed. It stays on the safe side: the
// newest keep (at least 1) whose manifest is sound and whose files have the sizes it says stay, with everything newer
// than the oldest of these. Contents are not hashed, because Prune runs after every save.
func Prune(run string, keep int) (removed []string, err error) { return pruneBehind(nil, run, keep) }

func pruneBehind(fence func() error, run string, keep int) (removed []string, err error) {
	err = on(run, func(p place) error {
		removed, err = prune(behind(p.fs, fence), p.name, keep)
		for i := range removed {
			removed[i] = p.path(removed[i])
		}
		return err
	})
	return removed, err
}

func prune(fs fsys, runDir string, keep int) (removed []string, err error) {
	if keep < 1 {
		return nil, fmt.Errorf("prune %s: keep is %d, expected at least 1", runDir, keep)
	}
	parent := filepath.Join(runDir, folderName)
	if err := tidy(fs, parent); err != nil {
		return nil, err
	}
	all, err := list(fs, filepath.Join(runDir, folderName))
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(all) {
		if keep > 0 {
			if sound(fs, e.Path) {
				keep--
			}
			continue
		}
		// Under the temporary name first: a removal cut short must not leave half a folder that looks like a checkpoint.
		// Objects need none: there the manifest goes first.
		away := e.Path
		if !fs.Objects() {
			away += tmpSuffix
			if err := fs.Rename(e.Path, away); err != nil {
				return removed, err
			}
		}
		if err := fs.RemoveAll(away); err != nil {
			return removed, err
		}
		removed = append(removed, e.Path)
	}
	if len(removed) == 0 || fs.Objects() {
		return removed, nil
	}
	return removed, fs.SyncDir(parent)
}

// sound tells whether a checkpoint's manifest is right and its files have the right sizes.
func sound(fs fsys, dir string) bool {
	at, m, err := readManifest(fs, dir)
	return err == nil && present(fs, at, m.Files) == nil
}

// present tells whether files are in a folder with the right sizes.
func present(fs fsys, dir string, files map[string]FileInfo) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := fs.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		f.Close()
		if f.Size() != files[name].Size {
			return fmt.Errorf("%s: %d bytes, expected %d", name, f.Size(), files[name].Size)
		}
	}
	return nil
}
