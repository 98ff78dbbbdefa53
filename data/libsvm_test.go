package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestLIBSVM(t *testing.T) {
	text := "+1 1:0.5 3:-2e3 \r\n# a comment\n\n-1\t2:1 # another\n+1\n-1 1:0 5:7"
	ds := mustRead(t, text, Options{})
	in := ds.Info()
	if ds.Len() != 4 || in.Dim != 5 || !in.Sparse || in.Task != Classification || in.Classes != 2 || !slices.Equal(in.Labels, []string{"-1", "+1"}) {
		t.Fatalf("%d samples, %+v", ds.Len(), in)
	}
	b := gather(ds)
	if !slices.Equal(b.Row, []int{0, 2, 3, 3, 4}) || !slices.Equal(b.Col, []int32{0, 2, 1, 4}) ||
		!slices.Equal(b.Val, []float32{0.5, -2000, 1, 7}) || !slices.Equal(b.Class, []int32{1, 0, 1, 0}) || len(b.X) != 0 {
		t.Errorf("rows %v, columns %v, values %v, classes %v", b.Row, b.Col, b.Val, b.Class)
	}
	ds.Gather(b, []int{3, 0})
	if !slices.Equal(b.Row, []int{0, 1, 3}) || !slices.Equal(b.Col, []int32{4, 0, 2}) {
		t.Errorf("samples 3 and 0: rows %v, columns %v", b.Row, b.Col)
	}
	zero := mustRead(t, "0 0:1 4:2\n1 0:3\n", Options{ZeroBased: true})
	if zero.Info().Dim != 5 || !slices.Equal(gather(zero).Col, []int32{0, 4, 0}) {
		t.Errorf("counted from 0: %+v, columns %v", zero.Info(), gather(zero).Col)
	}
}

func TestLIBSVMTargets(t *testing.T) {
	for _, c := range []struct {
		labels string // one a line
		o      Options
		task   Task
		names  string
		class  []int32
		y      []float32
	}{
		{"1 2 3 1 2 3", Options{}, Classification, "[1 2 3]", []int32{0, 1, 2, 0, 1, 2}, nil},
		{"4 -2 4 -2", Options{}, Classification, "[-2 4]", []int32{1, 0, 1, 0}, nil},
		{"1.5 2 3", Options{}, Regression, "[]", nil, []float32{1.5, 2, 3}},
		{"10 25 31 44", Options{}, Regression, "[]", nil, []float32{10, 25, 31, 44}},
		{"10 25 31 44", Options{Task: Classification}, Classification, "[10 25 31 44]", []int32{0, 1, 2, 3}, nil},
		{"0 1 1", Options{Task: Regression}, Regression, "[]", nil, []float32{0, 1, 1}},
		{"0 2 2", Options{Classes: 4}, Classification, "[0 1 2 3]", []int32{0, 2, 2}, nil},
	} {
		text := ""
		for _, l := range strings.Fields(c.labels) {
			text += l + " 1:1\n"
		}
		ds, err := read(t, text, c.o)
		if err != nil {
			t.Errorf("%s: %v", c.labels, err)
			continue
		}
		in, b := ds.Info(), gather(ds)
		if in.Task != c.task || fmt.Sprint(in.Labels) != c.names || !slices.Equal(b.Class, c.class) || !slices.Equal(b.Y, c.y) {
			t.Errorf("%s: %s %v, classes %v, targets %v", c.labels, in.Task, in.Labels, b.Class, b.Y)
		}
	}
}

func TestLIBSVMRefuses(t *testing.T) {
	for _, c := range []struct {
		text string
		o    Options
		says []string
	}{
		{"1 1:1\n0 2:1 2:3\n", Options{}, []string{"input, line 2", "index 2 is given twice"}},
		{"1 3:1 2:3\n", Options{}, []string{"line 1", "index 2 comes after 3: indices must increase"}},
		{"1 0:1\n", Options{}, []string{"line 1", "index 0: indices count from 1"}},
		{"1 -3:1\n", Options{}, []string{`"-3:1": index is not a whole number from 1`}},
		{"1 99999999999:1\n", Options{}, []string{"index is not a whole number from 1 to 2147483647"}},
		{"1 1:1\n1 1:2\nspam 1:1\n", Options{}, []string{"line 3", `label "spam": is not a number`}},
		{"1 1:1\n1 hello\n", Options{Format: "libsvm"}, []string{"line 2", `"hello" is not index:value`}},
		{"1 1:x\n", Options{}, []string{"line 1", `value of "1:x": is not a number`}},
		{"1 1:\n", Options{}, []string{"line 1", "is not a number"}},
		{"1 1:nan\n", Options{}, []string{"line 1", "(NaN)"}},
		{"1 1:1\n1 1:-Inf\n", Options{}, []string{"line 2", "infinite"}},
		{"1 1:1e39\n", Options{}, []string{"line 1", "beyond the range of float32"}},
		{"nan 1:1\n", Options{}, []string{"line 1", "label", "(NaN)"}},
		{"1 qid:3 1:1\n", Options{Format: "libsvm"}, []string{"line 1", "ranking data (qid) is not supported"}},
		{"1 1:1 4:1\n", Options{Features: 3}, []string{"line 1", "index 4 is beyond the 3 features", "at least 4"}},
		{"# nothing\n\n", Options{Format: "libsvm"}, []string{"input: holds no samples"}},
		{"1\n0\n", Options{Format: "libsvm"}, []string{"not one feature"}},
		{"0 1:1\n5 1:1\n", Options{Classes: 3}, []string{"line 2", "label 5 is out of range", "from 0 to 2"}},
		{"0.5 1:1\n", Options{Task: Classification}, []string{"line 1", "label 0.5 is not a whole number"}},
		{"\x00\x01\x02\x03", Options{}, []string{"is no format that is known here"}},
		{pack(t, "1 1:1\n1 2:1\n")[:20], Options{}, []string{"input", "truncated"}},
	} {
		_, err := read(t, c.text, c.o)
		t.Run(c.says[len(c.says)-1], func(t *testing.T) { says(t, err, c.says...) })
	}
}

func TestLIBSVMTestSetHasTheTrainingWidthAndClasses(t *testing.T) {
	dir := put(t, "a.svm", "+1 1:1 4:1\n-1 2:1\n", "a.svm.t", "-1 1:1\n-1 2:1\n+1 3:1\n")
	train, test, err := Open(ctx, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if in := test.Info(); in.Dim != 4 || train.Info().Dim != 4 || !slices.Equal(gather(test).Class, []int32{0, 0, 1}) {
		t.Errorf("test set: %+v, classes %v", in, gather(test).Class)
	}
	dir = put(t, "a.svm", "+1 1:1 4:1\n-1 2:1\n", "a.svm.t", "-1 1:1\n-1 6:1\n")
	_, _, err = Open(ctx, dir, Options{})
	says(t, err, "a.svm.t, line 2", "index 6 is beyond the 4 features that the training data has", "at least 6")
	dir = put(t, "a.svm", "+1 1:1 4:1\n-1 2:1\n", "a.svm.t", "-1 1:1\n2 3:1\n")
	_, _, err = Open(ctx, dir, Options{})
	says(t, err, "a.svm.t, line 2", `label "2" is not one of the training data's 2 classes: [-1 +1]`)
}

func FuzzLIBSVM(f *testing.F) {
	f.Add([]byte("+1 1:0.5 3:-2e3\n-1 2:1 # x\n"))
	f.Add([]byte("3 1:1\n"))
	f.Add([]byte("1 2147483647:1\n0 0:0"))
	f.Fuzz(func(t *testing.T, p []byte) {
		ds, err := readLIBSVM(ctx, "input", bytesSource("input", p), Options{})
		if err != nil {
			says(t, err)
			return
		}
		// What was read is well formed and, written out, reads back the same.
		var b strings.Builder
		for i := range ds.Len() {
			if ds.class != nil {
				b.WriteString(ds.info.Labels[ds.class[i]])
			} else {
				fmt.Fprintf(&b, "%v", ds.y[i])
			}
			for k := ds.row[i]; k < ds.row[i+1]; k++ {
				if k > ds.row[i] && ds.col[k] <= ds.col[k-1] || int(ds.col[k]) >= ds.info.Dim || math.IsNaN(float64(ds.val[k])) {
					t.Fatalf("sample %d is malformed", i)
				}
				fmt.Fprintf(&b, " %d:%v", ds.col[k]+1, ds.val[k])
			}
			b.WriteByte('\n')
		}
		again, err := readLIBSVM(ctx, "input", bytesSource("input", []byte(b.String())), Options{Features: ds.info.Dim, Task: ds.info.Task})
		if err != nil {
			t.Fatalf("%q written back as %q gives %v", p, b.String(), err)
		}
		if !slices.Equal(again.col, ds.col) || !slices.Equal(again.val, ds.val) || !slices.Equal(again.row, ds.row) ||
			!slices.Equal(again.class, ds.class) || !slices.Equal(again.y, ds.y) {
			t.Fatalf("%q written back as %q reads otherwise", p, b.String())
		}
	})
}

// A file of many pieces reads as its lines do one by one, on any number of cores, and what is wrong is in the line that it
// says.
func TestLIBSVMInPieces(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var lines []string
	for size := 0; size < 5*libsvmChunk; {
		line := fmt.Sprintf("%d", r.IntN(3))
		for col := 1 + r.IntN(5); col < 300; col += 1 + r.IntN(40) {
			line += fmt.Sprintf(" %d:%.3g", col, r.NormFloat64())
		}
		switch r.IntN(20) {
		case 0:
			line = "# " + line
		case 1:
			line = ""
		}
		lines = append(lines, line)
		size += len(line) + 1
	}
	wrong := slices.Clone(lines)
	at := len(lines)/2 + r.IntN(len(lines)/2)
	wrong[at] = "1 5:2 4:3"
	var first *sparse
	for _, cores := range []int{1, 2, 5} {
		was := runtime.GOMAXPROCS(cores)
		defer runtime.GOMAXPROCS(was)
		text := strings.Join(lines, "\n") + "\n"
		d, err := readLIBSVM(ctx, "input", bytesSource("input", []byte(text)), Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if first == nil {
			first = d
			b := gather(d)
			n := 0
			for _, l := range lines {
				if l == "" || l[0] == '#' {
					continue
				}
				one, err := readLIBSVM(ctx, "input", bytesSource("input", []byte(l+"\n")), Options{Features: d.info.Dim, Classes: 3})
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				lo, hi := b.Row[n], b.Row[n+1]
				if one.class[0] != b.Class[n] || !slices.Equal(one.col, b.Col[lo:hi]) || !slices.Equal(one.val, b.Val[lo:hi]) {
					t.Fatalf("seed %d: sample %d is not that of its line", seed, n)
				}
				n++
			}
			if n != d.Len() {
				t.Fatalf("seed %d: %d samples, expected %d", seed, d.Len(), n)
			}
		} else if !slices.Equal(d.row, first.row) || !slices.Equal(d.col, first.col) || !slices.Equal(d.val, first.val) || !slices.Equal(d.class, first.class) ||
			d.info.Dim != first.info.Dim {
			t.Fatalf("seed %d: %d cores read other samples than one", seed, cores)
		}
		_, err = readLIBSVM(ctx, "input", bytesSource("input", []byte(strings.Join(wrong, "\n")+"\n")), Options{})
		says(t, err, fmt.Sprintf("line %d: index 4 comes after 5", at+1))
	}
}
