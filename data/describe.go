package data

import (
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// Description is what a data set holds, in numbers.
type Description struct {
	Info    Info  `json:"info"`
	Samples int   `json:"samples"`
	Counts  []int `json:"counts,omitempty"` // classification: samples of each class

	// Features: over all values, zeros of sparse samples included.
	Min      float32 `json:"min"`
	Max      float32 `json:"max"`
	Mean     float64 `json:"mean"`
	NonZero  int64   `json:"nonzero"`
	Constant int     `json:"constant"` // features that have the same value in every sample

	// Regression, by target.
	TargetMin  []float32 `json:"target_min,omitempty"`
	TargetMax  []float32 `json:"target_max,omitempty"`
	TargetMean []float64 `json:"target_mean,omitempty"`
}

// scan calls f with all samples in order, some at a time.
func scan(ctx context.Context, ds Dataset, f func(b *Batch)) error {
	var b Batch
	ids := all(ds.Len())
	for len(ids) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(256, len(ids))
		ds.Gather(&b, ids[:n])
		f(&b)
		ids = ids[n:]
	}
	return nil
}

// Describe reads all of ds.
func Describe(ctx context.Context, ds Dataset) (*Description, error) {
	d := &Description{Info: ds.Info(), Samples: ds.Len(), Min: float32(math.Inf(1)), Max: float32(math.Inf(-1))}
	dim, targets := d.Info.Dim, d.Info.Targets
	if d.Info.Task == Classification {
		d.Counts = make([]int, d.Info.Classes)
	}
	for range targets {
		d.TargetMin = append(d.TargetMin, float32(math.Inf(1)))
		d.TargetMax = append(d.TargetMax, float32(math.Inf(-1)))
		d.TargetMean = append(d.TargetMean, 0)
	}
	first, varies := make([]float32, dim), make([]bool, dim)
	seen := make([]int, dim) // sparse: samples in which a feature is not zero
	sum := 0.0
	start := true
	err := scan(ctx, ds, func(b *Batch) {
		for _, c := range b.Class {
			if c >= 0 {
				d.Counts[c]++
			}
		}
		for k, y := range b.Y {
			t := k % targets
			d.TargetMin[t], d.TargetMax[t] = min(d.TargetMin[t], y), max(d.TargetMax[t], y)
			d.TargetMean[t] += float64(y)
		}
		note := func(j int, v float32) {
			if v < d.Min {
				d.Min = v
			}
			if v > d.Max {
				d.Max = v
			}
			if v != 0 {
				d.NonZero++
				sum += float64(v)
			}
			if v != first[j] {
				varies[j] = true
			}
		}
		if start && b.N > 0 && len(b.X) > 0 {
			copy(first, b.X[:dim])
		}
		for lo := 0; lo < len(b.X); lo += dim {
			for j, v := range b.X[lo : lo+dim] {
				note(j, v)
			}
		}
		for k, col := range b.Col {
			if seen[col] == 0 {
				first[col] = b.Val[k]
			}
			seen[col]++
			note(int(col), b.Val[k])
		}
		start = false
	})
	if err != nil {
		return nil, err
	}
	cells := float64(ds.Len()) * float64(dim)
	if d.Info.Sparse {
		for j, n := range seen {
			varies[j] = varies[j] || n > 0 && n < ds.Len()
		}
		if float64(d.NonZero) < cells {
			d.Min, d.Max = min(d.Min, 0), max(d.Max, 0)
		}
	}
	for _, v := range varies {
		if !v {
			d.Constant++
		}
	}
	d.Mean = sum / cells
	for t := range d.TargetMean {
		d.TargetMean[t] /= float64(ds.Len())
	}
	return d, nil
}

// String prints the description in a few lines.
func (d *Description) String() string {
	var b strings.Builder
	in := d.Info
	kind := "dense"
	if in.Sparse {
		kind = "sparse"
	}
	fmt.Fprintf(&b, "%s: %s, %d samples of %d features", in.Name, in.Task, d.Samples, in.Dim)
	if len(in.Shape) > 1 {
		fmt.Fprintf(&b, " %v", in.Shape)
	}
	fmt.Fprintf(&b, ", %s\n", kind)
	fmt.Fprintf(&b, "  features %.6g to %.6g, mean %.6g, %.2f %% not zero", d.Min, d.Max, d.Mean,
		100*float64(d.NonZero)/(float64(d.Samples)*float64(in.Dim)))
	if d.Constant > 0 {
		fmt.Fprintf(&b, ", %d constant", d.Constant)
	}
	b.WriteByte('\n')
	for t := range d.TargetMean {
		fmt.Fprintf(&b, "  target %d: %.6g to %.6g, mean %.6g\n", t+1, d.TargetMin[t], d.TargetMax[t], d.TargetMean[t])
	}
	if len(d.Counts) > 0 {
		fmt.Fprintf(&b, "  %d classes:", len(d.Counts))
		for c, n := range d.Counts {
			if c == 30 {
				fmt.Fprintf(&b, " and %d more", len(d.Counts)-c)
				break
			}
			name := fmt.Sprint(c)
			if c < len(in.Labels) {
				name = in.Labels[c]
			}
			fmt.Fprintf(&b, " %s %d", name, n)
			if c < len(d.Counts)-1 {
				b.WriteByte(',')
			}
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "  sha256 %s\n", in.SHA256)
	return b.String()
}

// Verification is what Verify found.
type Verification struct {
	Train *Description `json:"train"`
	Test  *Description `json:"test,omitempty"`
	Files []FileSum    `json:"files,omitempty"`
	Notes []string     `json:"notes,omitempty"` // what is not wrong and yet worth knowing
}

// FileSum is one file that was read.
type FileSum struct {
	Path      string `json:"path"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	Published string `json:"published,omitempty"` // the source whose published file this is, bit for bit
}

// Verify opens the data at path, reads every sample and checks it: what Open checks, that every class occurs in the
// training samples, and how many test samples also occur in training. Its error is Open's.
func Verify(ctx context.Context, path string, o Options) (*Verification, error) {
	train, test, err := Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
	v := &Verification{}
	if v.Train, err = Describe(ctx, train); err != nil {
		return nil, err
	}
	for c, n := range v.Train.Counts {
		if n == 0 {
			v.Notes = append(v.Notes, fmt.Sprintf("class %d does not occur in the training samples", c))
		}
	}
	if v.Train.Constant > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%d of %d features have one value in all training samples", v.Train.Constant, v.Train.Info.Dim))
	}
	if test != nil {
		if v.Test, err = Describe(ctx, test); err != nil {
			return nil, err
		}
		shared, err := sharedSamples(ctx, train, test)
		if err != nil {
			return nil, err
		}
		if shared > 0 {
			v.Notes = append(v.Notes, fmt.Sprintf("%d of %d test samples also occur in training", shared, test.Len()))
		}
	}
	if name, _, _ := strings.Cut(path, ":"); name == "digits" {
		return v, nil
	}
	found, err := locate(path, o)
	if err != nil {
		return nil, err
	}
	parts := []part{found.train}
	if found.test != nil {
		parts = append(parts, *found.test)
	}
	for _, p := range parts {
		names := []string{p.data.name}
		if p.labels != nil {
			names = append(names, p.labels.name)
		}
		for _, name := range names {
			f := FileSum{Path: name}
			if f.SHA256, f.Size, err = fileSum(name); err != nil {
				return nil, err
			}
			f.note(v)
			v.Files = append(v.Files, f)
		}
	}
	return v, nil
}

// note compares a file with those that sources publish under its name.
func (f *FileSum) note(v *Verification) {
	for _, s := range Sources() {
		i := slices.IndexFunc(s.Files, func(p File) bool { return p.Name == filepath.Base(f.Path) })
		if i < 0 {
			continue
		}
		if s.Files[i].SHA256 == f.SHA256 {
			f.Published = s.Name
			return
		}
		v.Notes = append(v.Notes, fmt.Sprintf("%s is not the file that %s publishes under this name", f.Path, s.Name))
	}
}

// sharedSamples counts the samples of test that also occur in train, by a 64-bit hash of their features (FNV-1a over
// words).
func sharedSamples(ctx context.Context, train, test Dataset) (int, error) {
	const basis, prime = 14695981039346656037, 1099511628211
	each := func(ds Dataset, f func(h uint64)) error {
		return scan(ctx, ds, func(b *Batch) {
			for k := range b.N {
				h := uint64(basis)
				if len(b.Row) > 0 {
					for at := b.Row[k]; at < b.Row[k+1]; at++ {
						h = (h ^ uint64(b.Col[at])) * prime
						h = (h ^ uint64(math.Float32bits(b.Val[at]))) * prime
					}
				} else {
					for _, v := range b.X[k*b.Dim : (k+1)*b.Dim] {
						h = (h ^ uint64(math.Float32bits(v))) * prime
					}
				}
				f(h)
			}
		})
	}
	seen := make(map[uint64]struct{}, train.Len())
	if err := each(train, func(h uint64) { seen[h] = struct{}{} }); err != nil {
		return 0, err
	}
	shared := 0
	err := each(test, func(h uint64) {
		if _, ok := seen[h]; ok {
			shared++
		}
	})
	return shared, err
}

// Print writes the verification for people.
func (v *Verification) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "training: %s", v.Train)
	if v.Test != nil {
		fmt.Fprintf(&b, "test: %s", v.Test)
	}
	for _, f := range v.Files {
		fmt.Fprintf(&b, "%s  %s", f.SHA256, f.Path)
		if f.Published != "" {
			fmt.Fprintf(&b, "  (as %s publishes it)", f.Published)
		}
		b.WriteByte('\n')
	}
	for _, n := range v.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
