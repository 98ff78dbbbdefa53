package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// source is bytes that can be read from the start more than once.
type source struct {
	name string // path, or what a reader is called
	size int64  // of what is stored: memory is bounded by it
	open func() (io.ReadCloser, error)
}

func fileSource(path string) (source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return source{}, &Error{File: path, Err: cause(err)}
	}
	if st.IsDir() {
		return source{}, bad(path, "is a folder, expected a file")
	}
	if st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		return source{}, bad(path, "is a pipe, and data is read more than once: write it to a file first")
	}
	return source{name: path, size: st.Size(), open: func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

func bytesSource(name string, p []byte) source {
	return source{name: name, size: int64(len(p)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(p)), nil
	}}
}

// cause drops the path that os puts into its errors, since Error prints it already.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// input is the unpacked bytes of a source. Its errors are *Error and name the source, except io.EOF.
type input struct {
	*bufio.Reader
	name string
	size int64 // of the source
	gz   bool
	raw  counted
	file io.Closer
}

// most is the largest number of bytes that the source can unpack to: deflate packs at most 1032 to 1.
func (in *input) most() int64 {
	if in.gz {
		return in.size * 1032
	}
	return in.size
}

func (in *input) Close() error { return in.file.Close() }

// counted reads from r until ctx ends, counts bytes and says where the data breaks off.
type counted struct {
	ctx  context.Context
	r    io.Reader
	name string
	gz   bool
	n    int64
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err == nil || err == io.EOF {
		return n, err
	}
	switch {
	case c.gz && errors.Is(err, io.ErrUnexpectedEOF):
		err = badByte(c.name, c.n, "the gzip data ends here, before its end mark: the file is truncated, get it again")
	case c.gz && errors.Is(err, gzip.ErrChecksum):
		err = badByte(c.name, c.n, "the gzip data is corrupt (its checksum does not fit): get the file again")
	case c.gz && !located(err):
		err = &Error{File: c.name, Binary: true, Offset: c.n, What: "the gzip data is corrupt, get the file again", Err: cause(err)}
	case !located(err):
		err = &Error{File: c.name, Binary: true, Offset: c.n, Err: cause(err)}
	}
	return n, err
}

// read opens the source and unpacks it when it is gzip, which its first bytes tell.
func (s source) read(ctx context.Context) (*input, error) {
	f, err := s.open()
	if err != nil {
		return nil, &Error{File: s.name, Err: cause(err)}
	}
	in := &input{name: s.name, size: s.size, file: f}
	in.raw = counted{ctx: ctx, r: f, name: s.name}
	packed := bufio.NewReaderSize(&in.raw, 1<<16)
	in.Reader = packed
	if magic, _ := packed.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(packed)
		if err != nil {
			f.Close()
			return nil, &Error{File: s.name, What: "the gzip header is corrupt, get the file again", Err: err}
		}
		in.gz = true
		unpacked := &counted{ctx: ctx, r: z, name: s.name, gz: true}
		in.Reader = bufio.NewReaderSize(unpacked, 1<<16)
	}
	if _, err := in.Peek(1); err != nil {
		f.Close()
		if err == io.EOF {
			return nil, bad(s.name, "is empty")
		}
		return nil, err
	}
	return in, nil
}

// stem returns the name of a file without folder, .gz and its extension.
func stem(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), ".gz")
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// extension returns the lower-case extension of a file's name before .gz, with its dot.
func extension(path string) string {
	return strings.ToLower(filepath.Ext(strings.TrimSuffix(filepath.Base(path), ".gz")))
}

// lines hands out a text's lines, without line ends, and counts them.
type lines struct {
	in   *bufio.Reader
	n    int // number of the last line
	long []byte
}

// next returns the next line, valid until the following call, or io.EOF.
func (l *lines) next() ([]byte, error) {
	line, err := l.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		l.long = append(l.long[:0], line...)
		for err == bufio.ErrBufferFull {
			line, err = l.in.ReadSlice('\n')
			l.long = append(l.long, line...)
		}
		line = l.long
	}
	if err == io.EOF && len(line) > 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	l.n++
	if l.n == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// chunks hands out a text in pieces of whole lines, of about size bytes.
type chunks struct {
	in   *bufio.Reader
	size int // it may grow between two
	buf  []byte
	tail int // bytes at the end of the last piece's buffer that it left over
	used int
}

// next returns the next piece, valid until the following call, or io.EOF. Every piece ends with a line feed but the last.
func (c *chunks) next() ([]byte, error) {
	rest := c.buf[c.used : c.used+c.tail]
	if len(c.buf) < c.size {
		c.buf = make([]byte, c.size)
	}
	have := copy(c.buf, rest)
	for {
		n, err := io.ReadFull(c.in, c.buf[have:])
		have += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			c.used, c.tail = have, 0
			if have == 0 {
				return nil, io.EOF
			}
			return c.buf[:have], nil
		}
		if err != nil {
			return nil, err
		}
		if k := bytes.LastIndexByte(c.buf[:have], '\n'); k >= 0 {
			c.used, c.tail = k+1, have-k-1
			return c.buf[:k+1], nil
		}
		c.buf = append(c.buf, make([]byte, len(c.buf))...) // a line longer than that
	}
}
