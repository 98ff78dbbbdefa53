package data

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// IDX is the format of MNIST's files (LeCun, Cortes and Burges, "The MNIST database", section FILE FORMATS): a magic
// number 00 00 08 d for unsigned bytes in d dimensions, d big-endian uint32 sizes, then the bytes, last dimension
// fastest. Images have three dimensions (number, rows, columns) or more, labels one.

// idx is one file: sizes and bytes.
type idx struct {
	dims []int
	data []byte
}

const maxIDXDims = 8

// readIDX reads a whole IDX file. Memory grows with the bytes that are there, whatever the header promises.
func readIDX(in *input) (idx, error) {
	var magic [4]byte
	if n, err := io.ReadFull(in, magic[:]); err != nil {
		return idx{}, shortIDX(in, err, int64(n), "the file ends inside the 4 bytes of its magic number")
	}
	if magic[0] != 0 || magic[1] != 0 {
		return idx{}, badByte(in.name, 0, "begins with % x, not with IDX's magic number 00 00 08 0d (d dimensions of unsigned bytes)", magic[:])
	}
	if magic[2] != 8 {
		return idx{}, badByte(in.name, 2, "holds IDX type 0x%02x, expected 0x08 (unsigned bytes)", magic[2])
	}
	nd := int(magic[3])
	if nd == 0 || nd > maxIDXDims {
		return idx{}, badByte(in.name, 3, "has %d dimensions, expected 1 (labels) or 3 (images)", nd)
	}
	head := make([]byte, 4*nd)
	if n, err := io.ReadFull(in, head); err != nil {
		return idx{}, shortIDX(in, err, 4+int64(n), fmt.Sprintf("the file ends inside its %d dimensions", nd))
	}
	f := idx{dims: make([]int, nd)}
	total := int64(1)
	for i := range f.dims {
		size := int64(binary.BigEndian.Uint32(head[4*i:]))
		f.dims[i] = int(size)
		if size == 0 {
			return idx{}, badByte(in.name, int64(4+4*i), "dimension %d is 0: the file holds no data", i+1)
		}
		if total > in.most()/size {
			return idx{}, badByte(in.name, 4, "the header promises more than the file can hold (%d bytes stored): it is corrupt or truncated", in.size)
		}
		total *= size
	}
	start := int64(4 + 4*nd)
	f.data = make([]byte, 0, min(total, 8*in.size))
	for int64(len(f.data)) < total {
		if len(f.data) == cap(f.data) {
			f.data = slices.Grow(f.data, int(min(total-int64(len(f.data)), int64(max(len(f.data), 1<<20)))))
		}
		room := f.data[len(f.data):min(int64(cap(f.data)), total)]
		n, err := io.ReadFull(in, room)
		f.data = f.data[:len(f.data)+n]
		if err != nil {
			item := total / int64(f.dims[0])
			return idx{}, shortIDX(in, err, start+int64(len(f.data)),
				fmt.Sprintf("the file ends after %d of the %d items that its header promises", int64(len(f.data))/item, f.dims[0]))
		}
	}
	// Reading on to the end also checks gzip's own checksum.
	if _, err := in.ReadByte(); err == nil {
		return idx{}, badByte(in.name, start+total, "trailing bytes after the %d items that the header promises", f.dims[0])
	} else if err != io.EOF {
		return idx{}, err
	}
	return f, nil
}

func shortIDX(in *input, err error, offset int64, what string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return badByte(in.name, offset, "%s", what)
	}
	return err
}

// readImages reads an image file and, unless labels is nil, its label file.
func readImages(ctx context.Context, name string, pixels source, labels *source, o Options) (*images, error) {
	in, err := pixels.read(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, err := readIDX(in)
	if err != nil {
		return nil, err
	}
	if len(f.dims) < 2 {
		return nil, badByte(pixels.name, 3, "has 1 dimension, so it holds labels: expected images (3 dimensions, magic number 00 00 08 03)")
	}
	shape := f.dims[1:]
	dim := 1
	for _, s := range shape {
		dim *= s
	}
	n := f.dims[0]
	s := &Schema{Format: "idx", Task: Classification, Dim: dim, Shape: shape}
	if like := o.Like; like != nil {
		if !slices.Equal(like.Shape, shape) {
			return nil, badByte(pixels.name, 8, "holds images of shape %v, expected %v as in the training data", shape, like.Shape)
		}
		s = like
	}
	if labels == nil {
		if o.Like == nil {
			return nil, bad(pixels.name, "has no labels: put its label file (labels-idx1-ubyte) beside it")
		}
		return newImages(s.Info(name), s, pixels.name, f.data, nil), nil
	}
	class, top, err := readLabels(ctx, *labels, n, pixels.name, classesOf(o))
	if err != nil {
		return nil, err
	}
	if o.Like == nil {
		s.Classes = top + 1
		if o.Classes > 0 {
			s.Classes = o.Classes
		}
	}
	return newImages(s.Info(name), s, pixels.name, f.data, class), nil
}

// classesOf is the number of classes that labels must stay below, 0 when the data may say.
func classesOf(o Options) int {
	if o.Like != nil {
		return o.Like.Classes
	}
	return o.Classes
}

// readLabels reads n labels below classes (any, when 0) and returns the highest.
func readLabels(ctx context.Context, src source, n int, images string, classes int) ([]int32, int, error) {
	in, err := src.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	f, err := readIDX(in)
	if err != nil {
		return nil, 0, err
	}
	if len(f.dims) != 1 {
		return nil, 0, badByte(src.name, 3, "has %d dimensions, expected 1 (labels, magic number 00 00 08 01)", len(f.dims))
	}
	if f.dims[0] != n {
		return nil, 0, badByte(src.name, 4, "holds %d labels, but %s holds %d images: the two files do not belong together", f.dims[0], images, n)
	}
	class := make([]int32, n)
	top := 0
	for i, c := range f.data {
		if classes > 0 && int(c) >= classes {
			return nil, 0, badByte(src.name, int64(8+i), "label %d of image %d is out of range, expected 0 to %d", c, i, classes-1)
		}
		class[i] = int32(c)
		top = max(top, int(c))
	}
	return class, top, nil
}

// writeIDX writes one IDX file of unsigned bytes.
func writeIDX(w io.Writer, dims []int, data []byte) error {
	head := []byte{0, 0, 8, byte(len(dims))}
	for _, d := range dims {
		head = binary.BigEndian.AppendUint32(head, uint32(d))
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}
