package data

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pictures returns an IDX file of n images of 2x3 pixels, and labels their labels 0, 1, 2, 0, ...
func pictures(n int) (pix, labels string) {
	var p, l bytes.Buffer
	data, class := make([]byte, n*6), make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for i := range class {
		class[i] = byte(i % 3)
	}
	writeIDX(&p, []int{n, 2, 3}, data)
	writeIDX(&l, []int{n}, class)
	return p.String(), l.String()
}

func TestIDX(t *testing.T) {
	pix, labels := pictures(5)
	for name, dir := range map[string]string{
		"plain":     put(t, "train-images-idx3-ubyte", pix, "train-labels-idx1-ubyte", labels),
		"packed":    put(t, "train-images-idx3-ubyte.gz", pack(t, pix), "train-labels-idx1-ubyte.gz", pack(t, labels)),
		"with dots": put(t, "train-images.idx3-ubyte", pix, "train-labels.idx1-ubyte", labels),
	} {
		train, test, err := Open(ctx, dir, Options{Test: "none"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		in := train.Info()
		if test != nil || train.Len() != 5 || in.Dim != 6 || !slices.Equal(in.Shape, []int{2, 3}) || in.Classes != 3 {
			t.Errorf("%s: %d samples, test %v, %+v", name, train.Len(), test, in)
		}
		var b Batch
		train.Gather(&b, []int{4, 1})
		for k, i := range []int{4, 1} {
			for j := range 6 {
				if want := float32(byte((i*6+j)*7)) / 255; b.X[k*6+j] != want {
					t.Errorf("%s: pixel %d of image %d is %v, expected %v", name, j, i, b.X[k*6+j], want)
				}
			}
			if int(b.Class[k]) != i%3 || train.Label(i) != i%3 || b.ID[k] != i {
				t.Errorf("%s: image %d has label %d (%d) and number %d", name, i, b.Class[k], train.Label(i), b.ID[k])
			}
		}
	}
}

func TestIDXRefuses(t *testing.T) {
	pix, labels := pictures(5)
	high := labels[:10] + "\x09" + labels[11:]
	for _, c := range []struct {
		name, pix, labels string
		o                 Options
		says              []string
	}{
		{"magic", "\x01\x00" + pix[2:], labels, Options{}, []string{"train-images-idx3-ubyte, byte 0", "00 00 08 0d"}},
		{"type", pix[:2] + "\x0d" + pix[3:], labels, Options{}, []string{"byte 2", "0x0d", "0x08"}},
		{"dimensions", pix[:3] + "\xff" + pix[4:], labels, Options{}, []string{"byte 3", "255 dimensions"}},
		{"no images", pix[:7] + "\x00" + pix[8:], labels, Options{}, []string{"byte 4", "dimension 1 is 0"}},
		{"promise", pix[:4] + "\xff\xff\xff\xff" + pix[8:], labels, Options{}, []string{"byte 4", "promises more than the file can hold (46 bytes"}},
		{"overflow", pix[:4] + strings.Repeat("\xff", 12) + pix[16:], labels, Options{}, []string{"promises more"}},
		{"magic cut", pix[:3], labels, Options{}, []string{"byte 3", "ends inside the 4 bytes of its magic number"}},
		{"header cut", pix[:9], labels, Options{}, []string{"byte 9", "ends inside its 3 dimensions"}},
		{"cut", pix[:len(pix)-1], labels, Options{}, []string{"byte 45", "ends after 4 of the 5 items"}},
		{"trailing", pix + "x", labels, Options{}, []string{"byte 46", "trailing bytes after the 5 items"}},
		{"empty", "", labels, Options{}, []string{"train-images-idx3-ubyte: is empty"}},
		{"labels as images", labels, labels, Options{}, []string{"byte 3", "holds labels: expected images"}},
		{"images as labels", pix, pix, Options{}, []string{"train-labels-idx1-ubyte, byte 3", "expected 1 (labels"}},
		{"count", pix, "\x00\x00\x08\x01\x00\x00\x00\x02ab", Options{}, []string{"holds 2 labels", "train-images-idx3-ubyte holds 5 images"}},
		{"label", pix, high, Options{Classes: 3}, []string{"train-labels-idx1-ubyte, byte 10", "label 9 of image 2", "expected 0 to 2"}},
		{"gzip cut", pack(t, pix)[:30], labels, Options{}, []string{"truncated"}},
		{"gzip header", "\x1f\x8b\x08\xff", labels, Options{}, []string{"gzip header is corrupt"}},
		{"gzip checksum", flip(pack(t, pix), -8), labels, Options{}, []string{"gzip data is corrupt"}},
		{"gzip length", flip(pack(t, pix), -1), labels, Options{}, []string{"gzip data is corrupt"}},
		{"gzip body", flip(pack(t, pix), 12), labels, Options{}, []string{"train-images-idx3-ubyte"}},
		{"gzip bomb", pack(t, pix[:4]+"\x7f\xff\xff\xff"+pix[8:]), labels, Options{}, []string{"promises more than the file can hold"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := put(t, "train-images-idx3-ubyte", c.pix, "train-labels-idx1-ubyte", c.labels)
			c.o.Test = "none"
			_, _, err := Open(ctx, dir, c.o)
			says(t, err, c.says...)
		})
	}
}

// flip changes one byte, counted from the end when i is negative.
func flip(s string, i int) string {
	b := []byte(s)
	if i < 0 {
		i += len(b)
	}
	b[i] ^= 0x41
	return string(b)
}

func TestIDXTestSetMustFit(t *testing.T) {
	pix, labels := pictures(5)
	var wide, high bytes.Buffer
	writeIDX(&wide, []int{1, 2, 4}, make([]byte, 8))
	writeIDX(&high, []int{5}, []byte{0, 1, 2, 3, 0})
	dir := put(t, "train-images-idx3-ubyte", pix, "train-labels-idx1-ubyte", labels,
		"t10k-images-idx3-ubyte", wide.String(), "t10k-labels-idx1-ubyte", "\x00\x00\x08\x01\x00\x00\x00\x01\x00")
	_, _, err := Open(ctx, dir, Options{})
	says(t, err, "t10k-images-idx3-ubyte", "shape [2 4], expected [2 3]")
	dir = put(t, "train-images-idx3-ubyte", pix, "train-labels-idx1-ubyte", labels,
		"t10k-images-idx3-ubyte", pix, "t10k-labels-idx1-ubyte", high.String())
	_, _, err = Open(ctx, dir, Options{})
	says(t, err, "t10k-labels-idx1-ubyte, byte 11", "label 3 of image 3")
	dir = put(t, "train-images-idx3-ubyte", pix)
	_, _, err = Open(ctx, dir, Options{})
	says(t, err, "lacks train-labels-idx1-ubyte")
}

func TestWriteIDXAndReadBack(t *testing.T) {
	train, test, err := Open(ctx, "digits:train=40,test=20", Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	for range 2 { // the second replaces the first
		paths, err := WriteIDX(dir, Subset(train, []int{3, 1, 2}), test)
		if err != nil || len(paths) != 4 {
			t.Fatalf("wrote %v, %v", paths, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("the folder holds %v, %v", entries, err)
	}
	train2, test2, err := Open(ctx, dir, Options{Classes: 10})
	if err != nil {
		t.Fatal(err)
	}
	a, b := gather(Subset(train, []int{3, 1, 2})), gather(train2)
	if !slices.Equal(a.X, b.X) || !slices.Equal(a.Class, b.Class) {
		t.Error("training images read back differ from those written")
	}
	if got, want := test2.Info().SHA256, test.Info().SHA256; got != want {
		t.Errorf("test images read back hash to %s, written ones to %s", got, want)
	}
	if _, err := WriteIDX(dir, mustRead(t, "1,2,0\n2,3,1\n", Options{Test: "none"}), nil); err == nil {
		t.Error("a table was written as IDX")
	}
}

func TestStandardizedImages(t *testing.T) {
	train, test, err := Open(ctx, "digits:train=200,test=50", Options{Standardize: true})
	if err != nil {
		t.Fatal(err)
	}
	b := gather(train)
	sum, square := 0.0, 0.0
	for _, v := range b.X {
		sum += float64(v)
		square += float64(v) * float64(v)
	}
	n := float64(len(b.X))
	if m, v := sum/n, square/n; m > 1e-5 || m < -1e-5 || v > 1.0001 || v < 0.9999 {
		t.Errorf("standardized pixels have mean %v and variance %v", m, v)
	}
	s := SchemaOf(train)
	if s.Deviation == 0 || SchemaOf(test) != s {
		t.Errorf("the test set is not scaled as the training set: %+v", SchemaOf(test))
	}
	if min := slices.Min(gather(test).X); min != -s.Mean/s.Deviation {
		t.Errorf("test paper is %v, expected %v", min, -s.Mean/s.Deviation)
	}
}

func TestPNG(t *testing.T) {
	train, _, err := Open(ctx, "digits:train=10,test=0", Options{})
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewGray(image.Rect(0, 0, 28, 28))
	copy(img.Pix, train.(*images).pix[3*784:])
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	whole := b.String()
	ds := mustRead(t, whole, Options{Like: SchemaOf(train)})
	got := gather(ds)
	if ds.Len() != 1 || !slices.Equal(got.X, gather(train).X[3*784:4*784]) || got.Class[0] != -1 || ds.Label(0) != -1 {
		t.Errorf("the picture reads as %d samples, class %v", ds.Len(), got.Class)
	}
	_, err = read(t, whole, Options{})
	says(t, err, "is one picture", "no data to train on")
	_, err = read(t, whole[:60], Options{Like: SchemaOf(train)})
	says(t, err, "input: is no whole picture")
	b.Reset()
	png.Encode(&b, image.NewGray(image.Rect(0, 0, 20, 28)))
	_, err = read(t, b.String(), Options{Like: SchemaOf(train)})
	says(t, err, "28 rows of 20 pixels, expected 28 of 28")
}

func FuzzIDX(f *testing.F) {
	pix, labels := pictures(3)
	f.Add([]byte(pix))
	f.Add([]byte(labels))
	f.Add([]byte(pack(f, pix)))
	f.Add([]byte(pix[:4] + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		in, err := bytesSource("input", p).read(ctx)
		if err != nil {
			says(t, err)
			return
		}
		got, err := readIDX(in)
		if err != nil {
			says(t, err)
			return
		}
		if !in.gz && cap(got.data) > 8*len(p)+1<<20 {
			t.Errorf("%d bytes made it allocate %d", len(p), cap(got.data))
		}
		var b bytes.Buffer
		if err := writeIDX(&b, got.dims, got.data); err != nil {
			t.Fatal(err)
		}
		if !in.gz && !bytes.Equal(b.Bytes(), p) {
			t.Errorf("% x was read and is written back as % x", p, b.Bytes())
		}
	})
}
