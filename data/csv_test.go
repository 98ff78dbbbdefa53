package data

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// rows prints all samples of a dense data set with labels and targets.
func rows(ds Dataset) string {
	b := gather(ds)
	var out []string
	for i := range b.N {
		s := fmt.Sprint(b.X[i*b.Dim : (i+1)*b.Dim])
		if len(b.Class) > 0 {
			s += fmt.Sprintf(" %d", b.Class[i])
		} else {
			t := len(b.Y) / b.N
			s += fmt.Sprint(" ", b.Y[i*t:(i+1)*t])
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func TestCSV(t *testing.T) {
	head := "age,city,income,buys\n"
	body := "30,Rome,1.5,yes\n41,Oslo,-2e3,no\n5,Rome,0,yes\n"
	for _, c := range []struct {
		name, text string
		o          Options
		want       string
		columns    string
	}{
		{"names", head + body, Options{}, "[30 0 1 1.5] 1; [41 1 0 -2000] 0; [5 0 1 0] 1", "[age city=Oslo city=Rome income]"},
		{"no names", body, Options{}, "[30 0 1 1.5] 1; [41 1 0 -2000] 0; [5 0 1 0] 1", "[1 2=Oslo 2=Rome 3]"},
		{"names as a sample", head + body, Options{Header: "no", Text: []string{"1", "3"}, Drop: []string{"2"}},
			"[0 0 0 1 0 0 0 1] 0; [1 0 0 0 0 0 1 0] 2; [0 1 0 0 1 0 0 0] 1; [0 0 1 0 0 1 0 0] 2", "[1=30 1=41 1=5 1=age 3=-2e3 3=0 3=1.5 3=income]"},
		{"target by name", head + body, Options{Target: []string{"income"}, Drop: []string{"buys"}}, "[30 0 1] [1.5]; [41 1 0] [-2000]; [5 0 1] [0]", "[age city=Oslo city=Rome]"},
		{"target by number", head + body, Options{Target: []string{"3"}, Drop: []string{"4", "city"}}, "[30] [1.5]; [41] [-2000]; [5] [0]", "[age]"},
		{"semicolons", "a;b;c\n1;2.5;0\n3;1;1\n", Options{}, "[1 2.5] 0; [3 1] 1", "[a b]"},
		{"tabs", "1\t2\t0\n3\t4\t1\n", Options{}, "[1 2] 0; [3 4] 1", "[1 2]"},
		{"bars", "1|2|0\n3|4|1\n", Options{}, "[1 2] 0; [3 4] 1", "[1 2]"},
		{"blanks", " 1  2\t0\n\n3 4 1\n", Options{Delimiter: "blank"}, "[1 2] 0; [3 4] 1", "[1 2]"},
		{"blanks found", "1  2 0\n3 4 1\n", Options{}, "[1 2] 0; [3 4] 1", "[1 2]"},
		{"quotes", "\"a,b\",c,d\n1,\"x\ny\",0\n2,\"x\"\"y\",1\n", Options{}, "[1 1 0] 0; [2 0 1] 1", "[a,b c=x\ny c=x\"y]"},
		{"blanks around", "a, b , c\n1 , x, 0\n2, y ,1\n", Options{}, "[1 1 0] 0; [2 0 1] 1", "[a b=x b=y]"},
		{"byte order mark", "\xef\xbb\xbfa,b\n1,0\n2,1\n", Options{}, "[1] 0; [2] 1", "[a]"},
		{"DOS lines", "a,b\r\n1,0\r\n2,1\r\n", Options{}, "[1] 0; [2] 1", "[a]"},
		{"scikit-learn", "3,2,zebra,ant\n1,2,0\n3,4,1\n5,6,0\n", Options{}, "[1 2] 0; [3 4] 1; [5 6] 0", "[1 2]"},
		{"packed", pack(t, "1,2,0\n3,4,1\n"), Options{}, "[1 2] 0; [3 4] 1", "[1 2]"},
		{"mean", "a,b,y\n1,x,0\n,x,1\n3,,0\n", Options{Missing: "mean"}, "[1 1] 0; [2 1] 1; [3 0] 0", "[a b=x]"},
		{"drop", "a,b,y\n1,x,0\nNA,x,1\n3,?,0\n4,x,1\n", Options{Missing: "drop"}, "[1 1] 0; [4 1] 1", "[a b=x]"},
		{"drop without target", "a,y\n1,0\n2,\n3,1\n", Options{Missing: "drop"}, "[1] 0; [3] 1", "[a]"},
		{"standardize", "a,b,y\n1,5,0\n3,5,1\n", Options{Standardize: true}, "[-1 0] 0; [1 0] 1", "[a b]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Test = "none"
			ds, err := read(t, c.text, c.o)
			if err != nil {
				t.Fatal(err)
			}
			if got := rows(ds); got != c.want {
				t.Errorf("samples %s, expected %s", got, c.want)
			}
			if got := fmt.Sprint(ds.Info().Columns); got != c.columns {
				t.Errorf("columns %s, expected %s", got, c.columns)
			}
		})
	}
	scikit := mustRead(t, "3,2,zebra,ant\n1,2,0\n3,4,1\n5,6,0\n", Options{})
	if l := scikit.Info().Labels; !slices.Equal(l, []string{"zebra", "ant"}) {
		t.Errorf("class names %v: they must keep the order of their numbers", l)
	}
	two := mustRead(t, "1,2,3,4\n5,6,7,8\n", Options{Target: []string{"4", "2"}})
	if got := rows(two); got != "[1 3]  [4 2]; [5 7]  [8 6]" && got != "[1 3] [4 2]; [5 7] [8 6]" || two.Info().Targets != 2 {
		t.Errorf("two targets: %s, %+v", got, two.Info())
	}
}

func TestCSVSparse(t *testing.T) {
	text := "a,b,c,y\n0,x,2,0\n3,y,0,1\n"
	dense, sp := mustRead(t, text, Options{}), mustRead(t, text, Options{Sparse: true})
	b := gather(sp)
	if !sp.Info().Sparse || !slices.Equal(b.Row, []int{0, 2, 4}) || !slices.Equal(b.Col, []int32{1, 3, 0, 2}) || !slices.Equal(b.Val, []float32{1, 2, 3, 1}) {
		t.Errorf("rows %v, columns %v, values %v", b.Row, b.Col, b.Val)
	}
	want := gather(dense).X
	got := make([]float32, len(want))
	for i := range b.N {
		for k := b.Row[i]; k < b.Row[i+1]; k++ {
			got[i*b.Dim+int(b.Col[k])] = b.Val[k]
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("sparse %v, dense %v", got, want)
	}
}

func TestCSVRefuses(t *testing.T) {
	many := "a,y\n"
	for i := range 12 {
		many += fmt.Sprintf("x%d,%d\n", i, i%2)
	}
	for _, c := range []struct {
		name, text string
		o          Options
		says       []string
	}{
		{"ragged", "a,b,y\n1,2,0\n1,2\n", Options{}, []string{"input, line 3", "has 2 fields, line 1 has 3"}},
		{"ragged long", "1,2,0\n1,2,0\n1,2,3,0\n", Options{}, []string{"line 3", "has 4 fields, line 1 has 3"}},
		{"ragged first", "a,b,y\n1,2\n", Options{}, []string{"line 2", "has 2 fields, line 1 has 3"}},
		{"ragged blanks", "1 2 3\n1 2\n", Options{}, []string{"line 2", "has 2 fields, line 1 has 3"}},
		{"quote", "a,b\n1,\"2\n3,4\n", Options{}, []string{"input, line", `extraneous or missing "`}},
		{"bare quote", "a,b\n1,2\"3\n", Options{}, []string{"line 2", "bare"}},
		{"missing", "a,b,y\n1,,0\n1,2,0\n?,2,0\n", Options{}, []string{"line 2", `column "b"`, "missing here, and 2 in all", "mean", "drop"}},
		{"missing in a text", "a,b,y\n1,x,0\n1,na,0\n", Options{}, []string{"line 3", `column "b"`, "missing here, and 1 in all"}},
		{"missing target", "a,y\n1,0\n2,\n", Options{Missing: "mean"}, []string{"line 3", `column "y"`, "target is missing", "drop"}},
		{"all missing", "a,b,y\n1,,0\n2,,1\n", Options{Missing: "mean"}, []string{`column "b"`, "holds no value at all"}},
		{"all dropped", "a,b,y\n1,,0\n2,,1\n", Options{Missing: "drop"}, []string{"each of its 2 lines lacks a value"}},
		{"infinite", "a,y\n1,0\ninf,1\n", Options{}, []string{"line 3", `column "a"`, "infinite"}},
		{"too large", "a,y\n1,0\n1e300,1\n", Options{}, []string{"line 3", `column "a"`, "beyond the range of float32"}},
		{"text among numbers", "a,y\n1,0\n12a,1\n", Options{}, []string{"line 3", `column "a"`, `"12a"`, "list it under text"}},
		{"text among targets", "a,y\n1,0\n2,one\n", Options{}, []string{"line 3", `column "y"`, `target: "one"`}},
		{"text to regress on", "a,y\n1,b\n2,c\n", Options{Task: Regression}, []string{"line 2", `column "y"`, "regression needs numbers"}},
		{"texts", many, Options{MaxCategories: 10}, []string{"line 12", `column "a"`, "more than 10 different texts", "drop the column"}},
		{"same names", "a,b,a\n1,2,3\n", Options{}, []string{"line 1", `columns 1 and 3 have the same name "a"`}},
		{"names only", "a,b\n", Options{}, []string{"holds a line of column names and no samples"}},
		{"empty", "", Options{}, []string{"input: is empty"}},
		{"one column", "a\n1\n2\n", Options{}, []string{"has 1 columns and none is left"}},
		{"classes", "a,y\n1,0\n2,3\n", Options{Classes: 3}, []string{"line 3", `column "y"`, "label 3 is out of range", "0 to 2"}},
		{"number of names", "a,y\n1,b\n2,c\n", Options{Classes: 3}, []string{"2 different labels, but the classes are set to 3"}},
		{"scikit-learn count", "4,2,zebra,ant\n1,2,0\n3,4,1\n5,6,0\n", Options{}, []string{"line 1", "promises 4 samples, but 3 lines follow"}},
		{"scikit-learn label", "3,2,zebra,ant\n1,2,0\n3,4,2\n5,6,0\n", Options{}, []string{"line 3", "label 2 is out of range", "0 to 1"}},
		{"many labels", "a,y\n1,10\n2,20\n3,30.5\n", Options{Task: Classification}, []string{"line 4", "label 30.5 is not a whole number"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Format = "csv"
			_, err := read(t, c.text, c.o)
			says(t, err, c.says...)
		})
	}
}

// Wrong choices are no fault of the data: they name the nearest right one and are no *Error.
func TestWrongChoices(t *testing.T) {
	text := "age,income,buys\n1,2,0\n3,4,1\n"
	for _, c := range []struct {
		o    Options
		says string
	}{
		{Options{Format: "csvv"}, `unknown format "csvv": did you mean "csv"?`},
		{Options{Target: []string{"incme"}}, `unknown target column "incme": did you mean "income"?`},
		{Options{Target: []string{"4"}}, "target column 4: the file has columns 1 to 3"},
		{Options{Target: []string{"age", "1"}}, `target column "1" is given twice`},
		{Options{Drop: []string{"agee"}}, `unknown column to drop "agee": did you mean "age"?`},
		{Options{Drop: []string{"age"}, Target: []string{"age"}}, `column "age" is the target and cannot be dropped`},
		{Options{Text: []string{"agee"}}, `unknown text column "agee": did you mean "age"?`},
		{Options{Header: "no", Target: []string{"age"}}, "no line of column names, so give a number from 1 to 3"},
		{Options{Missing: "men"}, `unknown missing "men": did you mean "mean"?`},
		{Options{Task: "classify"}, `unknown task "classify"`},
		{Options{Header: "true"}, `unknown header "true"`},
		{Options{Delimiter: "ab"}, `delimiter "ab": expected one character`},
		{Options{TestFraction: 1}, "test fraction is 1, expected at least 0 and below 1"},
		{Options{TestFraction: math.NaN()}, "test fraction is NaN"},
		{Options{Classes: -1}, "-1 classes"},
		{Options{Sparse: true, Standardize: true}, "sparse samples cannot be standardized"},
	} {
		dir := put(t, "d.csv", text)
		_, _, err := Open(ctx, dir+"/d.csv", c.o)
		var e *Error
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v gives %v, expected %q", c.o, err, c.says)
		} else if asError(err, &e) {
			t.Errorf("%q blames the data", err)
		}
	}
}

func TestLikeTheTrainingData(t *testing.T) {
	head := "age,city,pay,buys\n"
	train := mustRead(t, head+"10,Rome,1,yes\n20,Oslo,3,no\n", Options{Standardize: true, Missing: "mean"})
	// A schema is kept in a run folder, so it goes through JSON here.
	p, err := json.Marshal(SchemaOf(train))
	if err != nil {
		t.Fatal(err)
	}
	like := &Schema{}
	if err := json.Unmarshal(p, like); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"same columns", head + "15,Oslo,2,no\n", "[0 1 0 0] 0"},
		{"other order", "pay,buys,city,age\n3,yes,Rome,20\n", "[1 0 1 1] 1"},
		{"further columns", "id,age,city,pay\n7,20,Rome,1\n", "[1 0 1 -1] -1"},
		{"no label", "age,city,pay\n20,Rome,1\n", "[1 0 1 -1] -1"},
		{"no names", "20,Rome,1,no\n", "[1 0 1 -1] 0"},
		{"no names, no label", "20,Rome,1\n", "[1 0 1 -1] -1"},
		{"filled", head + ",Rome,?,yes\n", "[0 0 1 0] 1"},
	} {
		ds, err := read(t, c.text, Options{Like: like, Missing: "mean"})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := rows(ds); got != c.want {
			t.Errorf("%s: %s, expected %s", c.name, got, c.want)
		}
		if in := ds.Info(); in.Dim != 4 || in.Classes != 2 || !slices.Equal(in.Labels, []string{"no", "yes"}) {
			t.Errorf("%s: %+v", c.name, in)
		}
	}
	for _, c := range []struct {
		text string
		says []string
	}{
		{"agee,city,pay\n20,Rome,1\n", []string{"lacks a column of the training data", `did you mean "agee"`}},
		{"20,Rome\n1,Rome\n", []string{"has 2 columns, expected 4 as in the training data (or the 3 features alone)"}},
		{head + "20,Paris,1,no\n", []string{"line 2", `column "city"`, `"Paris" does not occur in the training data`, "zero"}},
		{head + "x,Rome,1,no\n", []string{"line 2", `column "age"`, "as the training data's values are"}},
		{head + "20,Rome,1,maybe\n", []string{"line 2", `label "maybe" is not one of the training data's 2 classes: [no yes]`}},
		{"1 1:2\n", []string{"is libsvm, expected csv"}},
	} {
		_, err := read(t, c.text, Options{Like: like})
		says(t, err, c.says...)
	}
	if got := rows(mustRead(t, head+"20,Paris,1,no\n", Options{Like: like, Unknown: "zero"})); got != "[1 0 0 -1] 0" {
		t.Errorf("an unknown text read as zero: %s", got)
	}
	reg := SchemaOf(mustRead(t, "1,2.5\n2,3.5\n", Options{}))
	if b := gather(mustRead(t, "1\n2\n", Options{Like: reg, Format: "csv"})); len(b.Y) != 2 || b.Y[0] == b.Y[0] || b.Class != nil && len(b.Class) > 0 {
		t.Errorf("regression without targets: %v, %v", b.Y, b.Class)
	}
}

func TestTargetsBeside(t *testing.T) {
	dir := put(t, "d_data.csv", "1 2\n3 4\n5 6\n", "d_target.csv", "1.5\n2.5\n3.5\n", "other.txt", "a\nb\nb\n", "short.txt", "1\n2\n", "long.txt", "1\n2\n3\n4\n")
	train, _, err := Open(ctx, dir+"/d_data.csv", Options{Test: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(train); got != "[1 2] [1.5]; [3 4] [2.5]; [5 6] [3.5]" {
		t.Errorf("read %s", got)
	}
	train, _, err = Open(ctx, dir+"/d_data.csv", Options{Test: "none", TargetFile: dir + "/other.txt"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(train); got != "[1 2] 0; [3 4] 1; [5 6] 1" {
		t.Errorf("read %s", got)
	}
	_, _, err = Open(ctx, dir+"/d_data.csv", Options{TargetFile: dir + "/short.txt"})
	says(t, err, "short.txt", "holds 2 targets", "d_data.csv holds 3 samples")
	_, _, err = Open(ctx, dir+"/d_data.csv", Options{TargetFile: dir + "/long.txt"})
	says(t, err, "long.txt, line 4", "more targets than the 3 samples")
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("age,city,buys\n30,Rome,yes\n41,Oslo,no\n"), "")
	f.Add([]byte("3,2,zebra,ant\n1,2,0\n3,4,1\n5,6,0\n"), "mean")
	f.Add([]byte("1 2 3\n4 5 6\n"), "drop")
	f.Add([]byte("a;b\n\"x\";1\n"), "")
	f.Fuzz(func(t *testing.T, p []byte, missing string) {
		o := Options{Missing: missing, Test: "none", Standardize: len(p)%2 == 0}
		if o.validate() != nil {
			return
		}
		ds, err := readCSV(ctx, "input", bytesSource("input", p), nil, o)
		if err != nil {
			return
		}
		if len(ds.x) > 4*len(p)+4 {
			t.Errorf("%d bytes became %d values", len(p), len(ds.x))
		}
		out, _, err := finish(ds, nil, o)
		if err != nil {
			return
		}
		b := gather(out)
		if len(b.X) != b.N*out.Info().Dim {
			t.Errorf("%d samples of %d features, %d values", b.N, out.Info().Dim, len(b.X))
		}
		for i, v := range b.X {
			if math.IsInf(float64(v), 0) || v != v {
				t.Fatalf("value %d of %q is %v", i, p, v)
			}
		}
		for i, c := range b.Class {
			if c < 0 || int(c) >= out.Info().Classes {
				t.Fatalf("sample %d has class %d of %d", i, c, out.Info().Classes)
			}
		}
	})
}
