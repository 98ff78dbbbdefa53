package data

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/covey-ml/covey/data/digits"
	"github.com/covey-ml/covey/spec"
)

// Options say how to read data. The zero value reads what can be recognised: format by content, target in the last
// column, classes or numbers by the values, a test set that stands beside the file or else one sample in ten.
type Options struct {
	// Format is idx, libsvm or csv; "" finds it by content and name.
	Format string
	// Test is the file of the test set (for IDX, its image file or folder). "" takes the one that stands beside the
	// training file (a9a.t for a9a, name_test.csv for name_train.csv, t10k-* for train-*) and otherwise splits the
	// training data; beside does the first and never splits; none means that all samples are for training and there is no
	// test set.
	Test string
	// TestFraction is the part of the samples that becomes the test set when no file holds one, drawn by Seed; 0 means
	// 0.1, at least one sample is taken, and it must be below 1. It has no effect when there is a test file.
	TestFraction float64
	// Seed draws the split into training and test samples. The digits have a seed of their own.
	Seed uint64
	// Task is classification or regression; "" decides by the target: text is classes; numbers are classes when all are
	// whole and they are at most two, or a run from 0 or 1 with two samples a class, or up to a hundred different ones
	// with ten samples a class.
	Task Task
	// Classes is the number of classes; labels must then be whole numbers from 0 to Classes-1. 0 counts the different
	// labels (IDX: the highest label plus one).
	Classes int
	// Features is the width of LIBSVM samples; 0 takes the highest index of the training file.
	Features int
	// ZeroBased says that LIBSVM indices count from 0; normally they count from 1.
	ZeroBased bool
	// Standardize brings every number (not the indicators of texts) to mean 0 and deviation 1 over the training
	// samples: per column for CSV, over all pixels for images. Refused for LIBSVM, whose zeros it would fill.
	Standardize bool

	// Hash hashes the features of CSV and LIBSVM into at most 2^Hash, keyed by Seed (see hash.go for how); 0 does not. Samples
	// are then sparse, and no text is unknown.
	Hash int

	// The rest concerns CSV.

	// Target holds the columns to predict, by name or by number from 1; none means the last column.
	Target []string
	// TargetFile holds the targets when they are in a file of their own, one line a sample. "" takes name_target.csv
	// for name_data.csv when that stands beside it.
	TargetFile string
	// Drop holds columns to leave out, by name or number.
	Drop []string
	// Text holds columns to read as texts although they look like numbers, by name or number.
	Text []string
	// Delimiter is a character, or comma, tab or blank (runs of blanks and tabs); "" takes the first of tab,
	// comma, semicolon, bar and blank that the first line holds.
	Delimiter string
	// Header is yes or no; "" or auto takes the first line for names when no field of it is a number and some field of
	// the second line is.
	Header string
	// Missing says what happens to a missing value (an empty field, ?, NA, N/A, NaN, null): error, or "", refuses the
	// file and names the first; mean fills in the column's mean over the training samples, or for texts no indicator;
	// drop leaves the sample out; keep, with Hash, takes it for a text of its own, or, where Numbers is value, for 0.
	Missing string
	// Numbers says what becomes of a number with Hash: log, or "", hashes the half octave that it is in (1, 2, 3, 4 to below 6,
	// 6 to below 8 and so on, by sign), so that a model learns a weight for each; value keeps it as one feature.
	Numbers string
	// Unknown says what happens to a text that the training data does not hold: error, or "", refuses it; zero sets no
	// indicator.
	Unknown string
	// MaxCategories is the largest number of different texts in a column; 0 means 1000.
	MaxCategories int
	// Sparse hands out samples as CSR rows without the zeros, for tables with many texts.
	Sparse bool

	// Like reads the data as other data was read (SchemaOf): same columns, texts, fills, classes. Labels may then be
	// absent: class numbers are -1 and targets NaN where they are not known. nil decides from the data.
	Like *Schema

	targetBeside bool
}

func (o Options) validate() error {
	checks := []error{
		choice("format", o.Format, "idx", "libsvm", "csv"),
		choice("task", string(o.Task), string(Classification), string(Regression)),
		choice("header", o.Header, "auto", "yes", "no"),
		choice("missing", o.Missing, "error", "mean", "drop", "keep"),
		choice("numbers", o.Numbers, "log", "value"),
		choice("unknown", o.Unknown, "error", "zero"),
	}
	if err := errors.Join(checks...); err != nil {
		return err
	}
	switch {
	case o.TestFraction != o.TestFraction || o.TestFraction < 0 || o.TestFraction >= 1:
		return fmt.Errorf("data: the test fraction is %v, expected at least 0 and below 1 (for no test set, set test to none)", o.TestFraction)
	case o.Classes < 0:
		return fmt.Errorf("data: %d classes: expected a positive number", o.Classes)
	case o.Features < 0 || o.Features > maxIndex:
		return fmt.Errorf("data: %d features: expected a positive number of at most %d", o.Features, maxIndex)
	case o.Hash < 0 || o.Hash > maxHash:
		return fmt.Errorf("data: hash is %d: expected 1 to %d, the features' number as a power of 2", o.Hash, maxHash)
	case o.Hash > 0 && o.Features > 0:
		return fmt.Errorf("data: hash says how many features there are, so leave features out")
	case o.hashing() == nil && o.Missing == "keep":
		return fmt.Errorf("data: missing is keep, which needs hash: set missing to error, mean or drop")
	case o.hashing() == nil && o.Numbers != "":
		return fmt.Errorf("data: numbers is %s, which needs hash", o.Numbers)
	case o.Hash > 0 && o.Missing == "mean":
		return fmt.Errorf("data: missing is mean, which hashed features do not have: set it to keep, drop or error")
	case o.MaxCategories < 0 || o.MaxCategories > 1<<24:
		return fmt.Errorf("data: %d categories: expected 1 to %d", o.MaxCategories, 1<<24)
	}
	return nil
}

func choice(what, word string, choices ...string) error {
	if word == "" {
		return nil
	}
	if err := spec.OneOf(what, word, choices...); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	return nil
}

// Open reads the data at path and returns a training set and a test set, which is nil when Options.Test is none. path is
//
//	digits                      28x28 images of handwritten-like digits, made here
//	digits:train=12000,test=2000,seed=1     the same, with their numbers and seed
//	synthetic:100000            so many samples without content, for runs that compute nothing
//	a folder                    with the four files of MNIST, or one data set in another format
//	a file                      IDX images, LIBSVM or CSV, packed by gzip or not
//
// Data that cannot be read gives an *Error with file and place. ctx ends reading early with its error.
func Open(ctx context.Context, path string, o Options) (train, test Dataset, err error) {
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	switch name, _, _ := strings.Cut(path, ":"); name {
	case "digits":
		return openDigits(ctx, path, o)
	case "synthetic":
		train, err = openSynthetic(path, o)
		return train, nil, err
	}
	found, err := locate(path, o)
	if err != nil {
		return nil, nil, err
	}
	train, err = found.train.read(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	if found.test != nil {
		like := o
		like.Like = SchemaOf(train)
		test, err = found.test.read(ctx, like)
		if err != nil {
			return nil, nil, err
		}
		if test.Label(0) < 0 && train.Label(0) >= 0 {
			return nil, nil, bad(found.test.data.name, "has no labels, so it is no test set")
		}
	}
	return finish(train, test, o)
}

// Read reads one data set from r, called name in messages and Info, without any split. Its bytes are kept until it is
// read. It is meant for a pipe, together with Options.Like: then a single grey image in PNG of the training data's size
// is taken, too, 0 for paper and 255 for ink as in the training data.
func Read(ctx context.Context, r io.Reader, name string, o Options) (Dataset, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p, err := io.ReadAll(&counted{ctx: ctx, r: r, name: name})
	if err != nil {
		return nil, err
	}
	part := part{data: bytesSource(name, p), name: name}
	ds, err := part.read(ctx, o)
	if err != nil {
		return nil, err
	}
	o.Test = "none"
	ds, _, err = finish(ds, nil, o)
	return ds, err
}

// finish splits, fills and standardizes.
func finish(train, test Dataset, o Options) (Dataset, Dataset, error) {
	ids := all(train.Len())
	var out []int
	if test == nil && o.Test != "none" && o.Test != testBeside {
		if len(ids) < 2 {
			return nil, nil, fmt.Errorf("%s: one sample cannot be split into training and test: set test to none", train.Info().Name)
		}
		ids, out = split(len(ids), o.TestFraction, o.Seed)
	}
	parts := []Dataset{train}
	if test != nil {
		parts = append(parts, test)
	}
	switch d := train.(type) {
	case *table:
		if (o.Missing == "mean" || o.Standardize) && o.Like == nil {
			if o.Standardize && d.info.Sparse {
				return nil, nil, fmt.Errorf("%s: sparse samples cannot be standardized: their zeros would fill up", d.info.Name)
			}
			if err := d.fit(ids, o.Standardize); err != nil {
				return nil, nil, err
			}
		}
		for _, p := range parts {
			p.(*table).apply()
		}
	case *images:
		if o.Standardize && o.Like == nil {
			s := *d.schema
			if s.Mean, s.Deviation = d.moments(ids); s.Deviation == 0 {
				return nil, nil, bad(d.file, "all pixels are equal: nothing to standardize")
			}
			for i, p := range parts {
				q := p.(*images)
				parts[i] = newImages(q.info, &s, q.file, q.pix, q.class)
			}
		}
	case *sparse:
		if o.Standardize {
			return nil, nil, fmt.Errorf("%s: sparse samples cannot be standardized: their zeros would fill up", d.info.Name)
		}
	}
	train = parts[0]
	if test != nil {
		return train, parts[1], nil
	}
	if out != nil {
		return Subset(train, ids), Subset(train, out), nil
	}
	return train, nil, nil
}

// split draws the test samples. Both parts keep the order of the data.
func split(n int, fraction float64, seed uint64) (train, test []int) {
	if fraction == 0 {
		fraction = 0.1
	}
	count := min(max(int(float64(n)*fraction), 1), n-1)
	p := all(n)
	shuffle(p, seed, "data/split")
	test, train = p[:count:count], p[count:]
	slices.Sort(test)
	slices.Sort(train)
	return train, test
}

func openDigits(ctx context.Context, path string, o Options) (train, test Dataset, err error) {
	sp, err := spec.Parse(path)
	if err != nil {
		return nil, nil, err
	}
	n, m, seed := sp.Int("train", 12000), sp.Int("test", 2000), sp.Int("seed", 1)
	if err := sp.Done(); err != nil {
		return nil, nil, err
	}
	if n < 1 || m < 0 || seed < 0 || max(n, m) > 10_000_000 {
		return nil, nil, fmt.Errorf("%s: expected 1 to 10000000 training samples, up to as many test samples, and a seed of at least 0", path)
	}
	if err := o.noHash(path); err != nil {
		return nil, nil, err
	}
	if o.Classes != 0 && o.Classes != 10 {
		return nil, nil, fmt.Errorf("%s: has 10 classes, not %d", path, o.Classes)
	}
	switch o.Test {
	case "", testBeside:
	case "none":
		m = 0
	default:
		return nil, nil, fmt.Errorf("%s: makes its own test set, so the test set cannot be %s (set test to none for no test set)", path, o.Test)
	}
	s := &Schema{Format: "idx", Task: Classification, Dim: digits.Pixels, Shape: []int{digits.Side, digits.Side}, Classes: 10}
	if like := o.Like; like != nil {
		if !slices.Equal(like.Shape, s.Shape) || like.Classes != 10 {
			return nil, nil, fmt.Errorf("%s: images of shape %v in 10 classes, but the training data has shape %v and %d classes", path, s.Shape, like.Shape, like.Classes)
		}
		s = like
	}
	draw := func(first uint64, n int) (*images, error) {
		pix, class := make([]byte, n*digits.Pixels), make([]int32, n)
		var r digits.Renderer
		for i := range n {
			if i%256 == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			class[i] = int32(r.Draw(pix[i*digits.Pixels:(i+1)*digits.Pixels], uint64(seed), first+uint64(i)))
		}
		return newImages(s.Info("digits"), s, "digits", pix, class), nil
	}
	d, err := draw(0, n)
	if err != nil {
		return nil, nil, err
	}
	if m == 0 {
		o.Test = "none"
		return finish(d, nil, o)
	}
	t, err := draw(digits.Test, m)
	if err != nil {
		return nil, nil, err
	}
	return finish(d, t, o)
}

// part is the files of one set of samples.
type part struct {
	name   string
	format string // "" when only the content can tell
	data   source
	labels *source // IDX labels, or CSV targets in a file of their own
}

func (p part) read(ctx context.Context, o Options) (Dataset, error) {
	format := p.format
	if o.Format != "" {
		format = o.Format
	}
	if format == "" {
		var err error
		if format, err = p.sniff(ctx); err != nil {
			return nil, err
		}
	}
	if format == "png" {
		d, err := readPNG(ctx, p.name, p.data, o)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	if o.Like != nil && o.Like.Format != format {
		return nil, bad(p.data.name, "is %s, expected %s as the training data was", format, o.Like.Format)
	}
	// A typed nil must not become a Dataset, hence the cases.
	switch format {
	case "idx":
		if err := o.noHash(p.data.name); err != nil {
			return nil, err
		}
		d, err := readImages(ctx, p.name, p.data, p.labels, o)
		if err != nil {
			return nil, err
		}
		return d, nil
	case "libsvm":
		d, err := readLIBSVM(ctx, p.name, p.data, o)
		if err != nil {
			return nil, err
		}
		return d, nil
	default:
		d, err := readCSV(ctx, p.name, p.data, p.labels, o)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
}

// sniff tells the format by content, and where that leaves doubt, by name.
func (p part) sniff(ctx context.Context) (string, error) {
	in, err := p.data.read(ctx)
	if err != nil {
		return "", err
	}
	defer in.Close()
	start, err := in.Peek(1 << 16)
	if err != nil && err != io.EOF {
		return "", err
	}
	if len(start) >= 4 && start[0] == 0 && start[1] == 0 {
		return "idx", nil
	}
	if bytes.HasPrefix(start, pngMagic) {
		return "png", nil
	}
	switch extension(p.data.name) {
	case ".csv", ".tsv":
		return "csv", nil
	case ".svm", ".libsvm", ".svmlight":
		return "libsvm", nil
	}
	if bytes.IndexByte(start, 0) >= 0 {
		return "", bad(p.data.name, "is no format that is known here: begins with % x, expected text (LIBSVM, CSV) or IDX (00 00 08 ..)", start[:min(4, len(start))])
	}
	for len(start) > 0 {
		line, rest, _ := bytes.Cut(start, []byte("\n"))
		start = rest
		line, _, _ = bytes.Cut(bytes.TrimSpace(line), []byte("#"))
		word, pairs := field(line)
		if len(word) == 0 {
			continue
		}
		pair, _ := field(pairs)
		index, _, colon := bytes.Cut(pair, []byte(":"))
		if colon && len(index) > 0 && len(bytes.Trim(index, "-0123456789")) == 0 {
			return "libsvm", nil
		}
		return "csv", nil
	}
	return "csv", nil
}
