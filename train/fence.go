package train

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrOvertaken says that another process has taken a run folder over from this one, which must not write to it any more.
var ErrOvertaken = errors.New("another process has taken over the run folder")

// WriterFile begins the name of the file, in a run folder, that says who may write there; a number follows.
const WriterFile = "writer-"

// fence keeps a process away from a run folder that another has taken over. Who stood still for long (a machine that slept, a
// stopped process) was given up, and does not know: what it still had to write would go over what its successor wrote. So each rank 0
// takes the folder before it writes, with a file whose number is one more than that of who wrote before, whose file it takes away, and
// looks whether its own is still there before each write. Between that look and the write there is no more than a system call.
type fence struct {
	dir  string
	mine string
}

// lastWriter is the number of who has taken a run folder last, 0 when nobody has.
func lastWriter(dir string) (last int, err error) {
	err = eachWriter(dir, func(n int) error { last = max(last, n); return nil })
	return last, err
}

func eachWriter(dir string, f func(n int) error) error {
	all, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range all {
		digits, ok := strings.CutPrefix(e.Name(), WriterFile)
		if n, bad := strconv.Atoi(digits); err == nil && ok && bad == nil {
			err = f(n)
		}
	}
	return err
}

// takeFolder makes this process the one that writes a run folder. last is what lastWriter said before the workers met: who has stood
// still since, so that others took its place, does not take the folder from them.
func takeFolder(dir string, last int) (*fence, error) {
	own := last + 1
	f := &fence{dir, filepath.Join(dir, WriterFile+strconv.Itoa(own))}
	file, err := os.OpenFile(f.mine, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	switch {
	case os.IsExist(err):
		return nil, f.overtaken()
	case err != nil:
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	err = eachWriter(dir, func(n int) error {
		if n > own { // two have taken it since, and the first of them is gone again
			return f.overtaken()
		}
		if n < own {
			if err := os.Remove(filepath.Join(dir, WriterFile+strconv.Itoa(n))); !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.mine))
	}
	return f, nil
}

// check returns an error that wraps ErrOvertaken when somebody else has taken the folder.
func (f *fence) check() error {
	_, err := os.Lstat(f.mine)
	if os.IsNotExist(err) {
		return f.overtaken()
	}
	return err
}

func (f *fence) overtaken() error {
	return fmt.Errorf("%w %s: nothing more is written there from here", ErrOvertaken, f.dir)
}

// behind returns w, but for what is to be written once the folder is taken over.
func (f *fence) behind(w io.Writer) io.Writer { return fenced{f, w} }

type fenced struct {
	*fence
	w io.Writer
}

// Write implements io.Writer.
func (f fenced) Write(p []byte) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	return f.w.Write(p)
}
