package data

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/covey-ml/covey/spec"
)

// testBeside, as Options.Test, wants the test set that stands beside the training data, if any.
const testBeside = "beside"

// pair is what was found at a path.
type pair struct {
	train part
	test  *part
}

func locate(path string, o Options) (pair, error) {
	st, err := os.Stat(path)
	if err != nil {
		e := &Error{File: path, Err: cause(err)}
		if errors.Is(err, fs.ErrNotExist) {
			e.What = "not found (data is a file, a folder, or digits)"
			near := spec.NearestPath(path)
			if near == "" {
				name, _, _ := strings.Cut(path, ":")
				near = spec.Nearest(name, []string{"digits", "synthetic"})
			}
			if near != "" {
				e.What = fmt.Sprintf("not found, did you mean %s?", near)
			}
		}
		return pair{}, e
	}
	var p pair
	if st.IsDir() {
		if p, err = locateDir(path, o); err != nil {
			return p, err
		}
	} else {
		if p.train, err = locateFile(path, o); err != nil {
			return p, err
		}
		if t := companion(path); t != "" && (o.Test == "" || o.Test == testBeside) {
			if p.test, err = locateTest(t, o); err != nil {
				return p, err
			}
		}
	}
	switch o.Test {
	case "", testBeside:
	case "none":
		p.test = nil
	default:
		if p.test, err = locateTest(o.Test, o); err != nil {
			return p, err
		}
	}
	return p, nil
}

func locateTest(path string, o Options) (*part, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		set := idxSet(path)
		if set["t10k-images"] == "" {
			return nil, bad(path, "is a folder without t10k-images: name the test file")
		}
		path = set["t10k-images"]
	}
	o.TargetFile = "" // that of the training file
	t, err := locateFile(path, o)
	return &t, err
}

// locateFile finds what belongs to a file of samples.
func locateFile(path string, o Options) (part, error) {
	src, err := fileSource(path)
	if err != nil {
		return part{}, err
	}
	p := part{data: src, name: filepath.Base(path)}
	beside := o.TargetFile
	if kind := idxKind(filepath.Base(path)); kind != "" && o.Format != "csv" && o.Format != "libsvm" {
		p.format = "idx"
		if strings.HasSuffix(kind, "-labels") {
			return p, bad(path, "holds labels: name the file of images, or the folder")
		}
		set := idxSet(filepath.Dir(path))
		beside = set[strings.Replace(kind, "-images", "-labels", 1)]
	} else if beside == "" && (extension(path) == ".csv" || o.Format == "csv") {
		beside = sibling(path, "_data", "_target")
	}
	if beside != "" {
		labels, err := fileSource(beside)
		if err != nil {
			return p, err
		}
		p.labels = &labels
	}
	return p, nil
}

// idxKind returns train-images, train-labels, t10k-images or t10k-labels for the names that MNIST's files have, packed
// or not and with a dot or a dash before idx, and otherwise "".
func idxKind(name string) string {
	name = strings.Replace(strings.TrimSuffix(name, ".gz"), ".idx", "-idx", 1)
	for _, set := range []string{"train", "t10k"} {
		if name == set+"-images-idx3-ubyte" {
			return set + "-images"
		}
		if name == set+"-labels-idx1-ubyte" {
			return set + "-labels"
		}
	}
	return ""
}

// idxSet finds MNIST's files in a folder. An unpacked file goes before a packed one.
func idxSet(dir string) map[string]string {
	set := map[string]string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries { // in order of name, so name goes before name.gz
		if kind := idxKind(e.Name()); kind != "" && set[kind] == "" {
			set[kind] = filepath.Join(dir, e.Name())
		}
	}
	return set
}

func locateDir(dir string, o Options) (pair, error) {
	var p pair
	set := idxSet(dir)
	if len(set) > 0 {
		for _, kind := range []string{"train-images", "train-labels"} {
			if set[kind] == "" {
				return p, bad(dir, "lacks %s-idx%d-ubyte (packed as .gz or not)", kind, map[bool]int{true: 3, false: 1}[kind == "train-images"])
			}
		}
		var err error
		if p.train, err = locateFile(set["train-images"], o); err != nil {
			return p, err
		}
		p.train.name = filepath.Base(dir)
		if set["t10k-images"] != "" && (o.Test == "" || o.Test == testBeside) {
			if p.test, err = locateTest(set["t10k-images"], o); err != nil {
				return p, err
			}
			p.test.name = p.train.name
		}
		return p, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, &Error{File: dir, Err: cause(err)}
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); e.Type().IsRegular() && !strings.HasPrefix(n, ".") && !about(n) {
			names = append(names, n)
		}
	}
	// What another file brings along is no data set of its own.
	brought := map[string]bool{}
	for _, n := range names {
		full := filepath.Join(dir, n)
		for _, with := range []string{companion(full), sibling(full, "_data", "_target")} {
			if with != "" {
				brought[filepath.Base(with)] = true
			}
		}
	}
	sets := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return brought[n] })
	switch len(sets) {
	case 0:
		return p, bad(dir, "holds no data file")
	case 1:
		return locate(filepath.Join(dir, sets[0]), o)
	}
	return p, bad(dir, "holds %d data sets, name one of them: %s", len(sets), strings.Join(sets, ", "))
}

// about tells whether a file only describes data.
func about(name string) bool {
	for _, word := range []string{"readme", "license", "licence", "sha256sums", "md5sums"} {
		if strings.HasPrefix(strings.ToLower(name), word) {
			return true
		}
	}
	return extension(name) == ".md"
}

// companion returns the test file that stands beside a training file, or "".
func companion(path string) string {
	dir, name := filepath.Split(path)
	if kind := idxKind(name); kind == "train-images" {
		return idxSet(filepath.Dir(path))["t10k-images"]
	}
	plain := strings.TrimSuffix(name, ".gz")
	tries := []string{plain + ".t"}
	if s := stem(name); strings.Contains(s, "train") {
		tries = append(tries, strings.Replace(plain, "train", "test", 1))
	}
	for _, t := range tries {
		for _, ext := range []string{strings.TrimPrefix(name, plain), "", ".gz"} {
			if f := dir + t + ext; isFile(f) {
				return f
			}
		}
	}
	return ""
}

// sibling returns the existing file whose stem ends in other where path's ends in this, or "".
func sibling(path, this, other string) string {
	dir, name := filepath.Split(path)
	plain := strings.TrimSuffix(name, ".gz")
	s := stem(name)
	if !strings.HasSuffix(s, this) {
		return ""
	}
	t := strings.TrimSuffix(s, this) + other + strings.TrimPrefix(plain, s)
	for _, ext := range []string{strings.TrimPrefix(name, plain), "", ".gz"} {
		if f := dir + t + ext; isFile(f) {
			return f
		}
	}
	return ""
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
