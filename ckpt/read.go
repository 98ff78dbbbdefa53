package ckpt

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

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
	if c.Model, err = readTensors(fs, dir, modelKind, m); err != nil {
		return c, err
	}
	if c.State, err = readTensors(fs, dir, stateKind, m); err != nil {
		return c, err
	}
	got := WeightsHash(c.Model)
	if m.WeightsSHA256 == "" && m.Version >= VersionParts {
		c.WeightsSHA256 = got
	}
	if got != c.WeightsSHA256 {
		return c, fmt.Errorf("the parameters' SHA-256 is %s, %s says %s", got, ManifestFile, m.WeightsSHA256)
	}
	return c, nil
}

// readTensors reads the files of one kind, in the order of their parts.
func readTensors(fs fsys, dir, kind string, m Manifest) ([]Tensor, error) {
	var all []Tensor
	for _, name := range m.sortedFiles(kind) {
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
		all = append(all, ts...)
	}
	all, err := Join(all)
	if err != nil {
		return nil, fmt.Errorf("the %s: %w", kind, err)
	}
	return all, nil
}

// ReadStreams calls f with each Stream of a checkpoint folder, part after part: its number in its part, from 0, and what was written, of which f
// reads as much as it likes. What f has read is known to be as it was written when ReadStreams returns nil.
func ReadStreams(dir string, f func(i int, r io.Reader) error) error {
	return on(dir, func(p place) error {
		if err := readStreams(p.fs, p.name, f); err != nil {
			return fmt.Errorf("checkpoint %s: %w", dir, err)
		}
		return nil
	})
}

func readStreams(fs fsys, dir string, f func(i int, r io.Reader) error) error {
	dir, m, err := readManifest(fs, dir)
	if err != nil {
		return err
	}
	for _, name := range m.sortedFiles(streamKind) {
		if err := readStream(fs, dir, name, m.Files[name], f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func readStream(fs fsys, dir, name string, want FileInfo, f func(i int, r io.Reader) error) error {
	file, err := fs.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	r := io.TeeReader(bufio.NewReaderSize(io.NewSectionReader(file, 0, file.Size()), 1<<20), h)
	of, _ := parseFile(name) // the manifest's names are checked
	if err := f(of.own-1, r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return want.holds(name, file.Size(), h.Sum(nil))
}

func verify(fs fsys, dir string) (Manifest, error) {
	at, m, err := readManifest(fs, dir)
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if err == nil {
			err = check(fs, filepath.Join(at, name), name, m.Files[name])
		}
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return m, nil
}

// readManifest returns it and where the folder is: dir, what stepped aside for one that never came, or, in an object
// store, the newest that is there under dir's name.
func readManifest(fs fsys, dir string) (string, Manifest, error) {
	dir = filepath.Clean(dir)
	there, err := fs.Exists(dir)
	if err != nil {
		return "", Manifest{}, err
	}
	switch {
	case fs.Objects():
		if dir, err = resolve(fs, dir); err != nil {
			return "", Manifest{}, err
		}
	case !there:
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

// resolve finds the newest folder of dir's name that has a manifest; dir itself when none has.
func resolve(fs fsys, dir string) (string, error) {
	names, err := fs.List(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	highest := 1
	for _, name := range names {
		base, number := numbered(name)
		if base != filepath.Base(dir) || number <= highest {
			continue
		}
		whole, err := fs.Exists(filepath.Join(filepath.Dir(dir), name, ManifestFile))
		if err != nil {
			return "", err
		}
		if whole {
			highest = number
		}
	}
	return withNumber(dir, highest), nil
}

// numbered splits the name of a folder in an object store into what was asked for and the number of the attempt.
func numbered(name string) (base string, number int) {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		if n, err := strconv.Atoi(name[i+1:]); err == nil && n >= 2 && strconv.Itoa(n) == name[i+1:] {
			return name[:i], n
		}
	}
	return name, 1
}

func withNumber(dir string, n int) string {
	if n <= 1 {
		return dir
	}
	return dir + "." + strconv.Itoa(n)
}
