package ckpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"reflect"
	"strings"
	"testing"
)

func written(t testing.TB, ts []Tensor, meta map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, ts, meta); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readBack(b []byte) ([]Tensor, map[string]string, error) {
	return Read(bytes.NewReader(b), int64(len(b)))
}

// raw safetensors: a header as given, padded by nothing, and the data.
func container(head string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	return append(append(b, head...), make([]byte, data)...)
}

func TestWriteGolden(t *testing.T) {
	ts := []Tensor{
		Bytes("raw", nil, []byte{7}),
		Float32s("w", []int{1, 2}, []float32{1, 2}).With(Summed),
		Uint64s("n", []int{}, []uint64{3}),
	}
	got := written(t, ts, map[string]string{"b": "2", "a": "<1>"})
	head := `{"__metadata__":{"a":"\u003c1\u003e","b":"2","covey.shard.w":"summed"},` +
		`"n":{"dtype":"U64","shape":[],"data_offsets":[0,8]},` +
		`"w":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},` +
		`"raw":{"dtype":"U8","shape":[1],"data_offsets":[16,17]}}`
	for len(head)%8 != 0 {
		head += " "
	}
	want := container(head, 0)
	want = append(want, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 7)
	if !bytes.Equal(got, want) {
		t.Fatalf("got\n%q\nwant\n%q", got, want)
	}
}

func TestSafetensorsRoundTrip(t *testing.T) {
	ts := []Tensor{
		Float64s("d", []int{2}, []float64{1, 2}).With(PerClient),
		Float32s("empty", []int{0, 4}, nil),
		Float32s("ünïcode \"quoted\" \n", []int{2, 2}, []float32{1, 2, 3, 4}),
		Float32s("", []int{1}, []float32{5}),
		{Name: "half", Type: "BF16", Shape: []int{3}, Data: []byte{1, 2, 3, 4, 5, 6}, Shard: Dropped},
		{Name: "f16", Type: "F16", Shape: []int{1}, Data: []byte{1, 2}},
		{Name: "nibbles", Type: "F4", Shape: []int{4}, Data: []byte{1, 2}},
	}
	meta := map[string]string{"format": "pt", "covey.shard.nobody": "kept"}
	b := written(t, ts, meta)
	got, gotMeta, err := readBack(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, ts) {
		t.Errorf("got %+v, want %+v", got, ts)
	}
	if !maps.Equal(gotMeta, meta) {
		t.Errorf("metadata is %v, want %v", gotMeta, meta)
	}
	if n := binary.LittleEndian.Uint64(b); n%8 != 0 {
		t.Errorf("the header has %d bytes: data is not aligned", n)
	}
	if none, m, err := readBack(written(t, nil, nil)); len(none) != 0 || m != nil || err != nil {
		t.Errorf("an empty file gave %v, %v, %v", none, m, err)
	}
}

func TestReadForeign(t *testing.T) {
	// No padding, entries in another order than their data, spaces in the JSON, trailing spaces.
	b := container(`{ "b" : {"shape":[1],"data_offsets":[4,6],"dtype":"F16"}, "a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}  `, 6)
	ts, _, err := readBack(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(ts); got != "a, b" || ts[1].Type != "F16" || len(ts[1].Data) != 2 {
		t.Errorf("got %+v", ts)
	}
}

func TestReadRefuses(t *testing.T) {
	one := func(fields string) string { return `{"a":{` + fields + `}}` }
	const ok = `"dtype":"F32","shape":[2],"data_offsets":[0,8]`
	if _, _, err := readBack(container(one(ok), 8)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, head string
		data       int
		want       string
	}{
		{"not an object", `[]`, 0, "does not begin with {"},
		{"leading space", ` {}`, 0, "does not begin with {"},
		{"empty header", ``, 0, "does not begin with {"},
		{"not UTF-8", "{\"\xff\":{" + ok + "}}", 8, "not UTF-8"},
		{"cut JSON", `{"a":{"dtype":"F32"`, 0, "header"},
		{"trailing text", `{}x`, 0, "after the header's end"},
		{"second object", `{}{}`, 0, "after the header's end"},
		{"duplicate tensor", `{"a":{` + ok + `},"a":{` + ok + `}}`, 8, `"a" is there twice`},
		{"duplicate by escape", `{"a":{` + ok + `},"\u0061":{` + ok + `}}`, 8, `"a" is there twice`},
		{"duplicate field", one(ok + `,"dtype":"F32"`), 8, "dtype is there twice"},
		{"duplicate metadata", `{"__metadata__":{"k":"1","k":"2"}}`, 0, `"k" is there twice`},
		{"metadata number", `{"__metadata__":{"k":1}}`, 0, "1 where a string is expected"},
		{"metadata array", `{"__metadata__":[]}`, 0, "[ where { is expected"},
		{"unknown key", one(ok + `,"extra":1`), 8, `unknown key "extra"`},
		{"missing key", one(`"dtype":"F32","shape":[2]`), 8, "is missing"},
		{"unknown dtype", one(`"dtype":"F33","shape":[2],"data_offsets":[0,8]`), 8, `unknown dtype "F33"`},
		{"dtype number", one(`"dtype":32,"shape":[2],"data_offsets":[0,8]`), 8, "32 where a string is expected"},
		{"tensor is a number", `{"a":1}`, 0, "1 where { is expected"},
		{"negative dimension", one(`"dtype":"F32","shape":[-2],"data_offsets":[0,8]`), 8, "-2 where a whole number"},
		{"fractional dimension", one(`"dtype":"F32","shape":[2.0],"data_offsets":[0,8]`), 8, "2.0 where a whole number"},
		{"text dimension", one(`"dtype":"F32","shape":["2"],"data_offsets":[0,8]`), 8, "2 where a whole number"},
		{"huge dimension", one(`"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]`), 8, "where a whole number"},
		{"overflowing shape", one(`"dtype":"F32","shape":[65536,65536,65536,65536],"data_offsets":[0,8]`), 8, "too large"},
		{"many dimensions", one(`"dtype":"F32","shape":[` + strings.Repeat("1,", 40) + `2],"data_offsets":[0,8]`), 8, "more than 32 numbers"},
		{"one offset", one(`"dtype":"F32","shape":[2],"data_offsets":[8]`), 8, "has 1 numbers"},
		{"three offsets", one(`"dtype":"F32","shape":[2],"data_offsets":[0,8,9]`), 8, "more than 2 numbers"},
		{"backwards", one(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`), 8, "takes 8 bytes, data_offsets 8 to 0 say -8"},
		{"wrong length", one(`"dtype":"F32","shape":[2],"data_offsets":[0,4]`), 4, "takes 8 bytes"},
		{"hole at start", one(`"dtype":"F32","shape":[2],"data_offsets":[4,12]`), 12, "begins at byte 4"},
		{"hole between", `{"a":{` + ok + `},"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}}`, 10, `"b" begins at byte 9 of the data, the one before it ends at 8`},
		{"overlap", `{"a":{` + ok + `},"b":{"dtype":"U8","shape":[2],"data_offsets":[7,9]}}`, 9, `"b" begins at byte 7`},
		{"bytes left over", one(ok), 9, "take 8 bytes, the file holds 9"},
		{"data cut off", one(ok), 7, "take 8 bytes, the file holds 7"},
		{"half a byte", one(`"dtype":"F4","shape":[3],"data_offsets":[0,1]`), 1, "do not fill whole bytes"},
		{"unknown shard", `{"__metadata__":{"covey.shard.a":"x"},"a":{` + ok + `}}`, 8, `unknown shard "x"`},
	} {
		_, _, err := readBack(container(c.head, c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}

	long := binary.LittleEndian.AppendUint64(nil, maxHeader+1)
	if _, _, err := Read(bytes.NewReader(long), 1<<40); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a long header: %v", err)
	}
	if _, _, err := readBack([]byte{1, 2}); err == nil {
		t.Error("two bytes were read")
	}
	// A size that lies fails before memory is taken for it.
	b := container(one(`"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]`), 8)
	if _, _, err := Read(bytes.NewReader(b), int64(len(b))-8+1<<40); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a size that lies: %v", err)
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	b := written(t, []Tensor{Float32s("a", nil, []float32{1, 2, 3}), Bytes("b", nil, []byte("xyz"))}, map[string]string{"k": "v"})
	for n := range b {
		if _, _, err := readBack(b[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were read as whole", n, len(b))
		}
	}
	if _, _, err := readBack(append(b, 0)); err == nil {
		t.Error("a byte more was read as whole")
	}
}

func TestWriteRefuses(t *testing.T) {
	ok := Float32s("a", nil, []float32{1})
	for _, c := range []struct {
		name string
		ts   []Tensor
		meta map[string]string
		want string
	}{
		{"twice", []Tensor{ok, ok}, nil, `tensor "a" is given twice`},
		{"reserved", []Tensor{Float32s("__metadata__", nil, nil)}, nil, "reserved"},
		{"not UTF-8", []Tensor{Float32s("\xff", nil, nil)}, nil, "not UTF-8"},
		{"length", []Tensor{{Name: "a", Type: F32, Shape: []int{2}, Data: make([]byte, 4)}}, nil, "takes 8 bytes, there are 4"},
		{"type", []Tensor{{Name: "a", Type: "float", Shape: []int{1}, Data: make([]byte, 4)}}, nil, `unknown dtype "float"`},
		{"shape", []Tensor{{Name: "a", Type: F32, Shape: []int{-1}, Data: make([]byte, 4)}}, nil, "negative or too large"},
		{"dimensions", []Tensor{Float32s("a", make([]int, maxDims+1), nil)}, nil, "dimensions"},
		{"shard", []Tensor{ok.With("odd")}, nil, `unknown shard "odd"`},
		{"metadata", nil, map[string]string{"\xff": ""}, "not UTF-8"},
		{"metadata name", []Tensor{ok}, map[string]string{"covey.shard.a": "summed"}, "reserved"},
		{"header", []Tensor{Float32s(strings.Repeat("n", maxHeader), nil, nil)}, nil, "header"},
	} {
		err := Write(io.Discard, c.ts, c.meta)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

// FuzzSafetensors holds Read to three promises: it never panics, its two roads agree, and what it accepts Write gives
// back so that it reads the same.
func FuzzSafetensors(f *testing.F) {
	f.Add(written(f, []Tensor{Float32s("a", []int{1, 2}, []float32{1, 2}).With(Summed), Bytes("b", nil, []byte("xyz"))}, map[string]string{"k": "v"}))
	f.Add(written(f, nil, nil))
	f.Add(container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}`, 8))
	f.Add(container(`{"a":{"dtype":"F4","shape":[9223372036854775807,4],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, meta, err := readBack(b)
		ts2, meta2, err2 := decode(b)
		if (err == nil) != (err2 == nil) || !reflect.DeepEqual(ts, ts2) || !maps.Equal(meta, meta2) {
			t.Fatalf("Read gave %v, %v, %v; decode %v, %v, %v", ts, meta, err, ts2, meta2, err2)
		}
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Write(&again, ts, meta); err != nil {
			// A name that only an odd escape could make, or a foreign metadata key that Covey reserves.
			if !strings.Contains(err.Error(), "reserved") {
				t.Fatalf("cannot write what was read: %v", err)
			}
			return
		}
		ts3, meta3, err := readBack(again.Bytes())
		if err != nil || len(ts3) != len(ts) || !maps.Equal(meta, meta3) {
			t.Fatalf("read again: %v, %v, %v", ts3, meta3, err)
		}
		if err := Match(ts3, ts); err != nil {
			t.Fatalf("read again: %v", err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := Manifest{Format: Format, Version: Version, Step: 3, Seed: 1 << 63, Files: map[string]FileInfo{ModelFile: {1, "a"}, StateFile: {2, "b"}}}
	if err := m.Set("sampler", map[string]int{"at": 7}); err != nil {
		f.Fatal(err)
	}
	b, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(sealed))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		m2, err := decodeManifest(again)
		if err != nil {
			t.Fatalf("%+v is written and not read: %v", m, err)
		}
		if third, err := m2.encode(); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s became %s, %v", again, third, err)
		}
	})
}
