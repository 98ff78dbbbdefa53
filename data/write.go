package data

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WriteIDX writes image data sets as the four files of MNIST into the folder dir, which it makes, so that Open and other
// programs read them: train-images-idx3-ubyte.gz and so on; test may be nil. It returns their paths. A file appears
// whole or not at all, and what has its name is replaced. Data sets that are not images of bytes are refused.
func WriteIDX(dir string, train, test Dataset) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var paths []string
	write := func(name string, dims []int, data []byte) error {
		path := filepath.Join(dir, name)
		paths = append(paths, path)
		return replace(path, func(w io.Writer) error {
			z := gzip.NewWriter(w)
			return errors.Join(writeIDX(z, dims, data), z.Close())
		})
	}
	for _, part := range []struct {
		prefix string
		ds     Dataset
	}{{"train", train}, {"t10k", test}} {
		if part.ds == nil {
			continue
		}
		pix, shape, err := pixels(part.ds)
		if err != nil {
			return nil, err
		}
		n := part.ds.Len()
		label := make([]byte, n)
		for i := range label {
			c := part.ds.Label(i)
			if c < 0 || c > 255 {
				return nil, fmt.Errorf("sample %d has label %d: IDX labels are 0 to 255", i, c)
			}
			label[i] = byte(c)
		}
		if err := write(part.prefix+"-images-idx3-ubyte.gz", append([]int{n}, shape...), pix); err != nil {
			return nil, err
		}
		if err := write(part.prefix+"-labels-idx1-ubyte.gz", []int{n}, label); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// pixels returns the bytes of an image data set and the shape of a sample.
func pixels(ds Dataset) ([]byte, []int, error) {
	switch d := ds.(type) {
	case *images:
		return d.pix, d.info.Shape, nil
	case *subset:
		pix, shape, err := pixels(d.of)
		if err != nil {
			return nil, nil, err
		}
		dim := len(pix) / d.of.Len()
		out := make([]byte, 0, dim*len(d.ids))
		for _, i := range d.ids {
			out = append(out, pix[i*dim:(i+1)*dim]...)
		}
		return out, shape, nil
	}
	return nil, nil, fmt.Errorf("%s does not hold images of bytes, so it cannot be written as IDX", ds.Info().Name)
}

// replace writes a file under a temporary name in its folder, makes it durable and then gives it its name.
func replace(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
