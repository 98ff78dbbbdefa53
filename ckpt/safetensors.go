package ckpt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The safetensors format (huggingface/safetensors, README "Format"): eight bytes with the header's length, the header
// as JSON, and the data. The header maps a tensor's name to its dtype, its shape and its first and last-plus-one byte
// in the data; tensors follow each other without gap or overlap and fill the data. The optional entry __metadata__
// maps strings to strings.
const (
	maxHeader   = 16 << 20 // bytes; the reference allows 100 MB
	maxDims     = 32
	metadataKey = "__metadata__"
	// shardKey and a tensor's name make the metadata entry that holds its Shard, which safetensors has no field for.
	shardKey = "covey.shard."
	// pieceKey, likewise, holds its Piece.
	pieceKey = "covey.piece."
)

// bits is the size of an element of each type that safetensors knows. Covey writes the types of its constants and
// carries the others as they are.
var bits = map[DType]int64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
	"BOOL": 8, U8: 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
	F32: 32, F64: 64, I64: 64, U64: 64, "C64": 64,
}

// Write writes the tensors in the safetensors format, with meta as its metadata. They keep their order, save that
// larger elements come before smaller ones, so that each is aligned to its element. Equal input gives equal bytes. A
// Shard other than Replicated is kept as a metadata entry, which Read takes out again.
func Write(w io.Writer, tensors []Tensor, meta map[string]string) error {
	parts, err := encode(tensors, meta)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// encode returns the parts of a file: those after the second alias the tensors.
func encode(tensors []Tensor, meta map[string]string) ([][]byte, error) {
	tensors = slices.Clone(tensors)
	slices.SortStableFunc(tensors, func(a, b Tensor) int { return int(bits[b.Type] - bits[a.Type]) })
	head, err := header(tensors, meta)
	if err != nil {
		return nil, err
	}
	parts := [][]byte{binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head}
	for _, t := range tensors {
		parts = append(parts, t.Data)
	}
	return parts, nil
}

// header checks the tensors and makes the JSON by hand, so that the entries stand in the order of the data.
func header(tensors []Tensor, meta map[string]string) ([]byte, error) {
	all := maps.Clone(meta)
	if all == nil {
		all = map[string]string{}
	}
	seen := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		size, err := byteLen(t.Type, t.Shape)
		switch {
		case err != nil:
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		case size != int64(len(t.Data)):
			return nil, fmt.Errorf("tensor %q: %s %v takes %d bytes, there are %d", t.Name, t.Type, t.Shape, size, len(t.Data))
		case t.Name == metadataKey || !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("tensor %q: the name is reserved or not UTF-8", t.Name)
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %q is given twice", t.Name)
		}
		seen[t.Name] = true
		if err := checkShard(t.Shard); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		key := shardKey + t.Name
		for _, k := range []string{key, pieceKey + t.Name} {
			if _, taken := meta[k]; taken {
				return nil, fmt.Errorf("metadata %q: the name is reserved", k)
			}
		}
		if t.Shard != "" && t.Shard != Replicated {
			all[key] = string(t.Shard)
		}
		if t.Piece == nil {
			continue
		}
		if err := t.checkPiece(); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		all[pieceKey+t.Name] = t.Piece.String()
	}

	b := []byte{'{'}
	if len(all) > 0 {
		for k, v := range all {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return nil, fmt.Errorf("metadata %q is not UTF-8", k)
			}
		}
		j, err := json.Marshal(all) // in the order of the keys
		if err != nil {
			return nil, err
		}
		b = append(b, `"`+metadataKey+`":`...)
		b = append(b, j...)
	}
	off := int64(0)
	for _, t := range tensors {
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		b = append(b, name...)
		b = append(b, `:{"dtype":"`+string(t.Type)+`","shape":[`...)
		for i, d := range t.Shape {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(d), 10)
		}
		b = append(b, `],"data_offsets":[`...)
		b = strconv.AppendInt(b, off, 10)
		off += int64(len(t.Data))
		b = append(b, ',')
		b = strconv.AppendInt(b, off, 10)
		b = append(b, ']', '}')
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	if len(b) > maxHeader {
		return nil, fmt.Errorf("the header of %d tensors has %d bytes, at most %d are allowed", len(tensors), len(b), maxHeader)
	}
	return b, nil
}

// Read reads a safetensors file of size bytes, in the order of its data. All tensors share one new buffer. It accepts
// what Write writes and any other well-formed file, and refuses the rest with an error that says where it is wrong;
// what it allocates is bounded by size.
func Read(r io.ReaderAt, size int64) ([]Tensor, map[string]string, error) {
	var first [8]byte
	if size < 8 {
		return nil, nil, fmt.Errorf("safetensors: %d bytes are too few to hold a header", size)
	}
	if err := readFull(r, first[:], 0); err != nil {
		return nil, nil, err
	}
	n, err := headerLen(first[:], size)
	if err != nil {
		return nil, nil, err
	}
	head := make([]byte, n)
	if err := readFull(r, head, 8); err != nil {
		return nil, nil, err
	}
	entries, meta, err := parseHeader(head, size-8-n)
	if err != nil {
		return nil, nil, err
	}
	if err := readFull(r, first[:1], size-1); err != nil { // so that a wrong size fails before memory is taken
		return nil, nil, err
	}
	data := make([]byte, size-8-n)
	if err := readFull(r, data, 8+n); err != nil {
		return nil, nil, err
	}
	return slice(entries, data), meta, nil
}

// decode is Read for bytes in memory, which the tensors alias.
func decode(b []byte) ([]Tensor, map[string]string, error) {
	if len(b) < 8 {
		return nil, nil, fmt.Errorf("safetensors: %d bytes are too few to hold a header", len(b))
	}
	n, err := headerLen(b, int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	entries, meta, err := parseHeader(b[8:8+n], int64(len(b))-8-n)
	if err != nil {
		return nil, nil, err
	}
	return slice(entries, b[8+n:]), meta, nil
}

func headerLen(b []byte, size int64) (int64, error) {
	n := binary.LittleEndian.Uint64(b)
	switch {
	case n > maxHeader:
		return 0, fmt.Errorf("safetensors: the header says it has %d bytes, at most %d are allowed", n, maxHeader)
	case int64(n) > size-8:
		return 0, fmt.Errorf("safetensors: the header says it has %d bytes, the file has %d in all", n, size)
	}
	return int64(n), nil
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("safetensors: at byte %d: %w", off+int64(n), err)
}

// entry is a tensor of the header: bytes lo to hi of the data.
type entry struct {
	Tensor
	lo, hi int64
}

func slice(entries []entry, data []byte) []Tensor {
	out := make([]Tensor, len(entries))
	for i, e := range entries {
		out[i] = e.Tensor
		out[i].Data = data[e.lo:e.hi:e.hi]
	}
	return out
}

// parseHeader reads and checks the header of a file with size bytes of data.
func parseHeader(head []byte, size int64) ([]entry, map[string]string, error) {
	if !utf8.Valid(head) {
		return nil, nil, fmt.Errorf("safetensors: the header is not UTF-8")
	}
	if len(head) == 0 || head[0] != '{' {
		return nil, nil, fmt.Errorf("safetensors: the header does not begin with {")
	}
	p := headerParser{dec: json.NewDecoder(bytes.NewReader(head)), seen: map[string]bool{}}
	p.dec.UseNumber()
	if err := p.object(p.tensor); err != nil {
		return nil, nil, fmt.Errorf("safetensors: header: %w", err)
	}
	if rest := bytes.TrimRight(head[p.dec.InputOffset():], " "); len(rest) > 0 {
		return nil, nil, fmt.Errorf("safetensors: %d bytes after the header's end that are not spaces", len(rest))
	}

	slices.SortStableFunc(p.entries, func(a, b entry) int {
		if a.lo != b.lo {
			return int(max(-1, min(1, a.lo-b.lo)))
		}
		return int(max(-1, min(1, a.hi-b.hi)))
	})
	at := int64(0)
	for _, e := range p.entries {
		if e.lo != at {
			return nil, nil, fmt.Errorf("safetensors: tensor %q begins at byte %d of the data, the one before it ends at %d", e.Name, e.lo, at)
		}
		at = e.hi
	}
	if at != size {
		return nil, nil, fmt.Errorf("safetensors: the tensors take %d bytes, the file holds %d", at, size)
	}
	for i := range p.entries {
		e := &p.entries[i]
		if s, ok := p.meta[shardKey+e.Name]; ok {
			e.Shard = Shard(s)
			if err := checkShard(e.Shard); err != nil {
				return nil, nil, fmt.Errorf("safetensors: tensor %q: %w", e.Name, err)
			}
			delete(p.meta, shardKey+e.Name)
		}
		if text, ok := p.meta[pieceKey+e.Name]; ok {
			piece, err := parsePiece(text)
			if err == nil {
				e.Piece = &piece
				err = e.checkPiece()
			}
			if err != nil {
				return nil, nil, fmt.Errorf("safetensors: tensor %q: %w", e.Name, err)
			}
			delete(p.meta, pieceKey+e.Name)
		}
	}
	if len(p.meta) == 0 {
		p.meta = nil
	}
	return p.entries, p.meta, nil
}

// headerParser walks the JSON token by token: encoding/json alone would let a later key silently replace an earlier one.
type headerParser struct {
	dec     *json.Decoder
	entries []entry
	meta    map[string]string
	seen    map[string]bool
}

// object reads { key: value, ... } and calls value with each key, to read what follows it.
func (p *headerParser) object(value func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return fmt.Errorf("%v where a name is expected", t)
		}
		if err := value(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p *headerParser) tensor(name string) error {
	if p.seen[name] {
		return fmt.Errorf("%q is there twice", name)
	}
	p.seen[name] = true
	if name == metadataKey {
		return p.metadata()
	}
	e := entry{Tensor: Tensor{Name: name, Shape: []int{}}}
	fields := map[string]bool{}
	err := p.object(func(key string) error {
		if fields[key] {
			return fmt.Errorf("%s is there twice", key)
		}
		fields[key] = true
		switch key {
		case "dtype":
			s, err := p.text()
			e.Type = DType(s)
			return err
		case "shape":
			return p.numbers(maxDims, func(n int64) { e.Shape = append(e.Shape, int(n)) })
		case "data_offsets":
			var off []int64
			if err := p.numbers(2, func(n int64) { off = append(off, n) }); err != nil {
				return err
			}
			if len(off) != 2 {
				return fmt.Errorf("data_offsets has %d numbers, expected 2", len(off))
			}
			e.lo, e.hi = off[0], off[1]
			return nil
		}
		return fmt.Errorf("unknown key %q (dtype, shape, data_offsets)", key)
	})
	if err == nil && len(fields) != 3 {
		err = fmt.Errorf("one of dtype, shape, data_offsets is missing")
	}
	if err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	size, err := byteLen(e.Type, e.Shape)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	if e.hi-e.lo != size { // both are between 0 and 2^48: no overflow
		return fmt.Errorf("tensor %q: %s %v takes %d bytes, data_offsets %d to %d say %d", name, e.Type, e.Shape, size, e.lo, e.hi, e.hi-e.lo)
	}
	p.entries = append(p.entries, e)
	return nil
}

func (p *headerParser) metadata() error {
	p.meta = map[string]string{}
	return p.object(func(key string) error {
		if _, twice := p.meta[key]; twice {
			return fmt.Errorf("%s: %q is there twice", metadataKey, key)
		}
		s, err := p.text()
		if err != nil {
			return fmt.Errorf("%s: %q: %w", metadataKey, key, err)
		}
		p.meta[key] = s
		return nil
	})
}

func (p *headerParser) delim(want json.Delim) error {
	t, err := p.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v where %v is expected", t, want)
	}
	return nil
}

func (p *headerParser) text() (string, error) {
	t, err := p.dec.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%v where a string is expected", t)
	}
	return s, nil
}

// numbers reads [n, ...] of at most most whole numbers from 0 to maxElements.
func (p *headerParser) numbers(most int, add func(int64)) error {
	if err := p.delim('['); err != nil {
		return err
	}
	for k := 0; p.dec.More(); k++ {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		if k == most {
			return fmt.Errorf("more than %d numbers", most)
		}
		num, _ := t.(json.Number)
		n, err := strconv.ParseUint(string(num), 10, 64)
		if err != nil || n > maxElements {
			return fmt.Errorf("%v where a whole number from 0 to %d is expected", t, int64(maxElements))
		}
		add(int64(n))
	}
	return p.delim(']')
}

// byteLen is the number of bytes of a tensor.
func byteLen(d DType, shape []int) (int64, error) {
	b, ok := bits[d]
	if !ok {
		known := make([]string, 0, len(bits))
		for k := range bits {
			known = append(known, string(k))
		}
		slices.Sort(known)
		return 0, fmt.Errorf("unknown dtype %q (%s)", d, strings.Join(known, ", "))
	}
	if len(shape) > maxDims {
		return 0, fmt.Errorf("%d dimensions, at most %d are allowed", len(shape), maxDims)
	}
	n, ok := product(shape)
	if !ok {
		return 0, fmt.Errorf("shape %v is negative or too large", shape)
	}
	if n*b%8 != 0 {
		return 0, fmt.Errorf("%d elements of %s do not fill whole bytes", n, d)
	}
	return n * b / 8, nil
}

func checkShard(s Shard) error {
	switch s {
	case "", Replicated, Summed, PerClient, Dropped:
		return nil
	}
	return fmt.Errorf("unknown shard %q (%s, %s, %s, %s)", s, Replicated, Summed, PerClient, Dropped)
}
