package ckpt

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Checkpoint is all that a run needs to go on. Save fills Format, Version, WeightsSHA256 and Files itself.
type Checkpoint struct {
	Manifest
	Model []Tensor // the parameters, F32, in the order of the model's layout: together the flat vector
	State []Tensor // all else: moments, residuals, positions
}

// A folder is written as NAME.covey-tmp. When a checkpoint of that name is there already it steps aside as
// NAME.covey-old until the new one has its name. So at any moment one of NAME and NAME.covey-old is whole, and NAME, when
// it is there, is the one that counts.
const (
	tmpSuffix = ".covey-tmp"
	oldSuffix = ".covey-old"
)

// Save writes a checkpoint folder: model.safetensors, state.safetensors and manifest.json. It is whole under its own
// name and durable when Save returns nil. After an error, or when the process or the machine dies meanwhile, the
// checkpoint that dir held before is still there and Load takes no half one for whole; what is left over beside dir goes
// at the next Save. One Save at a time in one parent folder.
func Save(dir string, c Checkpoint) error { return save(disk{}, dir, c) }

// Load reads a checkpoint folder and holds every file to the manifest's sizes and hashes. The error names the file
// that is missing or differs. To use the tensors, hand State to Stateful.Load and Model to Restore, which refuse those
// of another model.
func Load(dir string) (Checkpoint, error) { return load(disk{}, dir) }

// Verify reads a checkpoint folder as Load does, keeping none of its tensors.
func Verify(dir string) (Manifest, error) { return verify(disk{}, dir) }

func save(fs fsys, dir string, c Checkpoint) error {
	if err := write(fs, filepath.Clean(dir), c); err != nil {
		return fmt.Errorf("saving checkpoint %s: %w", dir, err)
	}
	return nil
}

func write(fs fsys, dir string, c Checkpoint) error {
	if err := c.check(); err != nil {
		return err
	}
	for _, t := range c.Model {
		if t.Type != F32 {
			return fmt.Errorf("model tensor %q is %s, expected %s", t.Name, t.Type, F32)
		}
	}
	parent, tmp, old := filepath.Dir(dir), dir+tmpSuffix, dir+oldSuffix
	if err := makeParent(fs, parent); err != nil {
		return err
	}
	if err := tidy(fs, parent); err != nil {
		return err
	}
	if err := fill(fs, tmp, c); err != nil {
		return errors.Join(err, fs.RemoveAll(tmp))
	}

	had, err := fs.Exists(dir)
	if err != nil {
		return errors.Join(err, fs.RemoveAll(tmp))
	}
	if had {
		if err := fs.Rename(dir, old); err != nil {
			return errors.Join(err, fs.RemoveAll(tmp))
		}
	}
	if err := fs.Rename(tmp, dir); err != nil {
		if had {
			err = errors.Join(err, fs.Rename(old, dir))
		}
		return errors.Join(err, fs.RemoveAll(tmp))
	}
	if err := fs.SyncDir(parent); err != nil {
		return err
	}
	if had {
		_ = fs.RemoveAll(old) // the new one is in place and durable: what stays behind, the next tidy takes
	}
	return nil
}

// makeParent makes the folder that holds checkpoints, durably.
func makeParent(fs fsys, parent string) error {
	there, err := fs.Exists(parent)
	if err != nil || there {
		return err
	}
	if err := fs.MkdirAll(parent); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(parent))
}

// tidy settles what an earlier Save or Prune left in parent: a checkpoint that had stepped aside gets its name back when
// no other took it.
func tidy(fs fsys, parent string) error {
	names, err := fs.List(parent)
	if err != nil {
		return err
	}
	changed := false
	for _, name := range names {
		path := filepath.Join(parent, name)
		base, aside := strings.CutSuffix(path, oldSuffix)
		if !aside && !strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		taken := true
		if aside {
			if taken, err = fs.Exists(base); err != nil {
				return err
			}
		}
		if taken {
			err = fs.RemoveAll(path)
		} else {
			err = fs.Rename(path, base)
		}
		if err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return fs.SyncDir(parent)
}

// fill writes the three files and makes them durable.
func fill(fs fsys, dir string, c Checkpoint) error {
	if err := fs.MkdirAll(dir); err != nil {
		return err
	}
	m := c.Manifest
	m.Format, m.Version = Format, Version
	m.WeightsSHA256 = WeightsHash(c.Model)
	m.Files = map[string]FileInfo{}
	for _, f := range []struct {
		name    string
		tensors []Tensor
	}{{ModelFile, c.Model}, {StateFile, c.State}} {
		info, err := create(fs, dir, f.name, func(w io.Writer) error { return Write(w, f.tensors, nil) })
		if err != nil {
			return err
		}
		m.Files[f.name] = info
	}
	b, err := m.encode()
	if err != nil {
		return err
	}
	if _, err := create(fs, dir, ManifestFile, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}

// create writes one file, syncs it, and returns its size and hash.
func create(fs fsys, dir, name string, content func(io.Writer) error) (info FileInfo, err error) {
	f, err := fs.Create(filepath.Join(dir, name))
	if err != nil {
		return info, err
	}
	h := sha256.New()
	n := &counter{}
	w := bufio.NewWriterSize(f, 1<<20)
	err = content(io.MultiWriter(w, h, n))
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return info, fmt.Errorf("%s: %w", name, err)
	}
	return FileInfo{Size: n.n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func load(fs fsys, dir string) (Checkpoint, error) {
	c, err := read(fs, dir)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return c, nil
}

func read(fs fsys, dir string) (c Checkpoint, err error) {
	dir, m, err := readManifest(fs, dir)
	if err != nil {
		return c, err
	}
	c.Manifest = m
	if c.Model, err = readTensors(fs, dir, ModelFile, m); err != nil {
		return c, err
	}
	if c.State, err = readTensors(fs, dir, StateFile, m); err != nil {
		return c, err
	}
	if got := WeightsHash(c.Model); got != m.WeightsSHA256 {
		return c, fmt.Errorf("the parameters' SHA-256 is %s, %s says %s", got, ManifestFile, m.WeightsSHA256)
	}
	return c, nil
}

func readTensors(fs fsys, dir, name string, m Manifest) ([]Tensor, error) {
	b, err := readAll(fs, filepath.Join(dir, name), m.Files[name].Size)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	if err := m.Files[name].holds(name, int64(len(b)), sum[:]); err != nil {
		return nil, err
	}
	ts, _, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ts, nil
}

func verify(fs fsys, dir string) (Manifest, error) {
	at, m, err := readManifest(fs, dir)
	for _, name := range []string{ModelFile, StateFile} {
		if err == nil {
			err = hashFile(fs, filepath.Join(at, name), name, m.Files[name])
		}
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return m, nil
}

func hashFile(fs fsys, path, name string, want FileInfo) error {
	f, err := fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if f.Size() == want.Size { // else it differs already
		if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.Size())); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return want.holds(name, f.Size(), h.Sum(nil))
}

// readManifest returns it and where the folder is: dir, or what stepped aside for one that never came.
func readManifest(fs fsys, dir string) (string, Manifest, error) {
	dir = filepath.Clean(dir)
	there, err := fs.Exists(dir)
	if err != nil {
		return "", Manifest{}, err
	}
	if !there {
		if aside, err := fs.Exists(dir + oldSuffix); err == nil && aside {
			dir += oldSuffix
		}
	}
	b, err := readAll(fs, filepath.Join(dir, ManifestFile), maxManifest)
	if err != nil {
		return "", Manifest{}, err
	}
	m, err := decodeManifest(b)
	return dir, m, err
}

// StepDir is the folder of one step's checkpoint in a run folder.
func StepDir(runDir string, step int) string {
	return filepath.Join(runDir, "checkpoints", "step-"+strconv.Itoa(step))
}

// Entry is a checkpoint of a run folder. List has not opened it.
type Entry struct {
	Path string
	Step int
}

// List returns a run folder's checkpoints by step, oldest first; none when there is no such folder.
func List(runDir string) ([]Entry, error) { return list(disk{}, runDir) }

func list(fs fsys, runDir string) ([]Entry, error) {
	parent := filepath.Join(runDir, "checkpoints")
	names, err := fs.List(parent)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, name := range names {
		base := strings.TrimSuffix(name, oldSuffix)
		digits, ok := strings.CutPrefix(base, "step-")
		step, err := strconv.Atoi(digits)
		if !ok || err != nil || strconv.Itoa(step) != digits || step < 0 {
			continue
		}
		if base != name && slices.Contains(names, base) {
			continue
		}
		out = append(out, Entry{Path: filepath.Join(parent, base), Step: step})
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Step - b.Step })
	return out, nil
}

// ErrNone is returned, wrapped, by Latest when a run folder has no whole checkpoint.
var ErrNone = errors.New("no whole checkpoint")

// Latest returns the newest whole checkpoint of a run folder, and for each newer one that it passed over, newest first,
// what is wrong with it: worth telling the user, and no reason to stop. When none is whole, err wraps ErrNone and says
// the same of all.
func Latest(runDir string) (path string, passed []error, err error) { return latest(disk{}, runDir) }

func latest(fs fsys, runDir string) (string, []error, error) {
	all, err := list(fs, runDir)
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
func Prune(runDir string, keep int) (removed []string, err error) { return prune(disk{}, runDir, keep) }

func prune(fs fsys, runDir string, keep int) (removed []string, err error) {
	if keep < 1 {
		return nil, fmt.Errorf("prune %s: keep is %d, expected at least 1", runDir, keep)
	}
	parent := filepath.Join(runDir, "checkpoints")
	if err := tidy(fs, parent); err != nil {
		return nil, err
	}
	all, err := list(fs, runDir)
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
		if err := fs.Rename(e.Path, e.Path+tmpSuffix); err != nil {
			return removed, err
		}
		if err := fs.RemoveAll(e.Path + tmpSuffix); err != nil {
			return removed, err
		}
		removed = append(removed, e.Path)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, fs.SyncDir(parent)
}

// sound tells whether a checkpoint's manifest is right and its files have the right sizes.
func sound(fs fsys, dir string) bool {
	at, m, err := readManifest(fs, dir)
	for name, want := range m.Files {
		if err != nil {
			return false
		}
		var f source
		if f, err = fs.Open(filepath.Join(at, name)); err == nil {
			if f.Size() != want.Size {
				err = os.ErrInvalid
			}
			f.Close()
		}
	}
	return err == nil
}
