package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/train"
)

// target is what a path given to inspect or predict turns out to be: one of the three is set, but that a checkpoint of a
// run folder has its run, too.
type target struct {
	run        string // folder with job.yaml
	checkpoint string // folder with manifest.json
	file       string // .safetensors
}

// findTarget tells run folders, checkpoint folders and tensor files apart by what they hold.
func findTarget(path string) (target, error) {
	st, err := os.Stat(path)
	if err != nil {
		if near := spec.NearestPath(path); errors.Is(err, fs.ErrNotExist) && near != "" {
			return target{}, usagef("%s is not there: did you mean %s?", path, near)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return target{}, usagef("%s is not there", path)
		}
		return target{}, &usageError{err}
	}
	if !st.IsDir() {
		switch base := filepath.Base(path); {
		case base == ckpt.ManifestFile:
			return checkpointTarget(filepath.Dir(path)), nil
		case base == jobFile, base == train.MetricsFile:
			return target{run: filepath.Dir(path)}, nil
		case strings.HasSuffix(base, ".safetensors"):
			return target{file: path}, nil
		}
		return target{}, usagef("%s is no run folder, checkpoint folder or .safetensors file", path)
	}
	switch {
	case holds(path, ckpt.ManifestFile), holds(path, ckpt.ModelFile), holds(path, ckpt.StateFile):
		return checkpointTarget(path), nil
	case holds(path, jobFile), holds(path, "checkpoints"):
		return target{run: path}, nil
	}
	if steps, _ := filepath.Glob(filepath.Join(path, "step-*", ckpt.ManifestFile)); len(steps) > 0 {
		return target{}, usagef("%s holds checkpoints: name one of them, or the run folder %s", path, filepath.Dir(path))
	}
	if runs, _ := filepath.Glob(filepath.Join(path, "*", jobFile)); len(runs) > 0 {
		newest, at := "", int64(0)
		for _, r := range runs {
			if st, err := os.Stat(r); err == nil && st.ModTime().UnixNano() >= at {
				newest, at = filepath.Dir(r), st.ModTime().UnixNano()
			}
		}
		return target{}, usagef("%s holds %s: name one of them, such as %s, the newest", path, count(len(runs), "run"), newest)
	}
	return target{}, usagef("%s is no run folder (it lacks %s) and no checkpoint folder (it lacks %s)", path, jobFile, ckpt.ManifestFile)
}

func holds(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// checkpointTarget finds the run that a checkpoint folder is in.
func checkpointTarget(dir string) target {
	p := target{checkpoint: dir}
	if abs, err := filepath.Abs(dir); err == nil {
		if parent := filepath.Dir(abs); filepath.Base(parent) == "checkpoints" && holds(filepath.Dir(parent), jobFile) {
			p.run = filepath.Dir(parent)
		}
	}
	return p
}

// corrupt is an error about what a file holds: exit code 3.
func corrupt(err error) error { return &codedError{err, exitData} }

func corruptf(format string, args ...any) error { return corrupt(fmt.Errorf(format, args...)) }

// savedAt is where the checkpoints of a run folder's run are: there, unless its job says elsewhere.
func savedAt(run string) string {
	if j, err := job.Load(filepath.Join(run, jobFile)); err == nil {
		return cmp.Or(j.Checkpoints, run)
	}
	return run
}
