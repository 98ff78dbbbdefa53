package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/job"
)

// subject is what is predicted.
type subject struct {
	data.Dataset
	what string // in words: the run's test set
}

// open finds the samples: those of --data, or else the run's own.
func (o *predictOptions) open(c *cobra.Command, l *learned, note func(format string, args ...any)) (subject, error) {
	var j *job.Job
	if l.run != "" {
		var err error
		if j, err = job.Load(filepath.Join(l.run, jobFile)); err != nil {
			return subject{}, err
		}
	}
	switch {
	case o.data == "" && j == nil:
		return subject{}, usagef("--data is needed: %s is not in a run folder, so its own data is not known", l.dir)
	case o.data == "" || j != nil && samePath(o.data, j.Data):
		return o.ownData(c, j, l, note)
	}
	read, err := o.options(c, j, l.schema)
	if err != nil {
		return subject{}, err
	}
	if o.data == "-" {
		return o.stream(c.Context(), c.InOrStdin(), "standard input", l, read, note)
	}
	name, _, _ := strings.Cut(o.data, ":")
	st, err := os.Stat(o.data)
	if err == nil && !st.IsDir() {
		special, err := o.special(c.Context(), l, read, note)
		if err != nil || special.Dataset != nil {
			return special, err
		}
	}
	return o.files(c.Context(), l, read, name == "digits" || err == nil && st.IsDir(), note)
}

// ownData is the training or test set of the run, read as it was for training.
func (o *predictOptions) ownData(c *cobra.Command, j *job.Job, l *learned, note func(format string, args ...any)) (subject, error) {
	for name := range o.keys {
		if c.Flags().Changed((job.Key{Name: name}).Flag()) {
			return subject{}, usagef("--%s: the run's own data is read as the run read it; the flag goes with --data of another file", (job.Key{Name: name}).Flag())
		}
	}
	tr, test, err := j.Open(c.Context())
	if err != nil {
		var bad *data.Error
		if o.data == "" && errors.As(err, &bad) && errors.Is(err, os.ErrNotExist) {
			return subject{}, fmt.Errorf("the run's data: %w; --data says where it is now", err)
		}
		return subject{}, err
	}
	if !reflect.DeepEqual(data.SchemaOf(tr), l.schema) {
		return subject{}, &data.Error{File: j.Data, What: "has changed since the run was trained: it has other columns, classes or scales now; predict on it with --data of another path"}
	}
	if l.trained != "" && tr.Info().SHA256 != l.trained {
		note("%s has changed since the run was trained: other samples", j.Data)
	}
	if o.on == onTrain {
		return subject{tr, "the run's training set"}, nil
	}
	if test == nil {
		return subject{}, usagef("the run has no test set: give --data FILE, or --on train for its training set")
	}
	return subject{test, "the run's test set"}, nil
}

// options say how to read other data: as the training data was read, and as the flags and the job say.
func (o *predictOptions) options(c *cobra.Command, j *job.Job, schema *data.Schema) (data.Options, error) {
	how := &job.Job{}
	if j != nil {
		how.Header, how.Delimiter, how.ZeroBased = j.Header, j.Delimiter, j.ZeroBased
		if j.Missing == "mean" {
			how.Missing = j.Missing
		}
	}
	if err := o.keys.set(c, how); err != nil {
		return data.Options{}, err
	}
	if how.Missing == "mean" && how.Given("missing") && (j == nil || j.Missing != "mean") && !hasFills(schema) {
		return data.Options{}, usagef("--missing mean: the training data had no missing values and the run kept no means; give --missing drop, or train with --missing mean")
	}
	return data.Options{Format: schema.Format, Like: schema, ZeroBased: how.ZeroBased, Header: how.Header, Delimiter: how.Delimiter, Missing: how.Missing,
		TargetFile: how.TargetFile, Unknown: o.unknown, Test: "none"}, nil
}

func hasFills(s *data.Schema) bool {
	for _, f := range s.Features {
		if f.Fill != 0 {
			return true
		}
	}
	return false
}

// files reads a file, a folder or digits. A folder, and a file that turns out to be the run's training data, stand for the
// test set that is beside them.
func (o *predictOptions) files(ctx context.Context, l *learned, read data.Options, both bool, note func(format string, args ...any)) (subject, error) {
	if both || o.on != "" {
		read.Test = "beside"
	}
	tr, test, err := data.Open(ctx, o.data, read)
	if err != nil {
		return subject{}, readError(err)
	}
	name := filepath.Base(o.data)
	switch {
	case o.on != "" && test == nil:
		return subject{}, usagef("--on %s: %s is one set of samples, with no test set beside it", o.on, o.data)
	case o.on == onTrain:
		return subject{tr, "the training set of " + name}, nil
	case test != nil:
		return subject{test, "the test set of " + name}, nil
	case l.trained == "" || tr.Info().SHA256 != l.trained:
		return subject{tr, name}, nil
	}
	read.Test = "beside"
	if _, test, err = data.Open(ctx, o.data, read); err != nil {
		return subject{}, readError(err)
	}
	if test == nil {
		note("%s is what the run was trained on", o.data)
		return subject{tr, name}, nil
	}
	note("%s is what the run was trained on: this is the test set beside it (--on train takes the training set)", o.data)
	return subject{test, "the test set beside " + name}, nil
}

// readError makes what is wrong whatever the data holds an error of usage.
func readError(err error) error {
	var bad *data.Error
	if err == nil || errors.As(err, &bad) {
		return err
	}
	return &usageError{err}
}

// special reads a file that is no data set but can be predicted: a picture, plain numbers. It returns no Dataset for
// other files.
func (o *predictOptions) special(ctx context.Context, l *learned, read data.Options, note func(format string, args ...any)) (subject, error) {
	f, err := os.Open(o.data)
	if err != nil {
		return subject{}, nil // data.Open says it better
	}
	defer f.Close()
	start := make([]byte, 512)
	n, _ := io.ReadFull(f, start)
	text := string(start[:n])
	if !isPicture(text) && !(l.schema.Format == "idx" && isText(text)) {
		return subject{}, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return subject{}, err
	}
	return o.stream(ctx, f, o.data, l, read, note)
}

// isText tells whether a file begins with plain text, as numbers are.
func isText(start string) bool {
	for _, c := range []byte(start) {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c > '~' {
			return false
		}
	}
	return start != ""
}

// stream reads samples from a pipe: what the training data was, or for a model of images also a picture or numbers.
func (o *predictOptions) stream(ctx context.Context, in io.Reader, name string, l *learned, read data.Options, note func(format string, args ...any)) (subject, error) {
	if o.on != "" {
		return subject{}, usagef("--on %s: %s is one set of samples", o.on, name)
	}
	r := bufio.NewReader(in)
	if magic, _ := r.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(r)
		if err != nil {
			return subject{}, &data.Error{File: name, What: "the gzip header is corrupt", Err: err}
		}
		r = bufio.NewReader(z)
	}
	start, err := r.Peek(512)
	if err != nil && err != io.EOF && len(start) == 0 {
		return subject{}, &data.Error{File: name, Err: err}
	}
	shape := l.schema.Shape
	pixels := []byte(nil)
	switch images := l.schema.Format == "idx"; {
	case isPicture(string(start)) && (!images || len(shape) != 2):
		return subject{}, &data.Error{File: name, What: fmt.Sprintf("is a picture, and the model was trained on %s samples of shape %v", l.schema.Format, shape)}
	case isPicture(string(start)):
		all, err := readAtMost(r, name, maxPicture)
		if err != nil {
			return subject{}, err
		}
		var notes []string
		if pixels, notes, err = picture(strings.NewReader(all), name, shape[0], shape[1], o.invert); err != nil {
			return subject{}, err
		}
		for _, n := range notes {
			note("%s", n)
		}
	case images && len(start) > 0 && start[0] != 0:
		all, err := readAtMost(r, name, maxNumbers)
		if err == nil {
			pixels, err = numbers(all, name, l.schema.Dim)
		}
		if err != nil {
			return subject{}, err
		}
	}
	var from io.Reader = r
	if pixels != nil {
		from = strings.NewReader(asIDX(shape, pixels))
	}
	ds, err := data.Read(ctx, from, name, read)
	return subject{ds, name}, readError(err)
}

func readAtMost(r io.Reader, name string, n int64) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, n+1))
	switch {
	case err != nil:
		return "", &data.Error{File: name, What: "cannot be read to its end", Err: err}
	case int64(len(b)) > n:
		return "", &data.Error{File: name, What: fmt.Sprintf("is larger than %s", bytes(n))}
	}
	return string(b), nil
}

// samePath tells whether two paths of data name the same.
func samePath(a, b string) bool {
	if a == b {
		return true
	}
	s, err := os.Stat(a)
	t, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(s, t)
}
