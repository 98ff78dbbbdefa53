package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/covey-ml/covey/vec"
)

// A snapshot is little-endian:
//
//	"coveytbl", a length (4 bytes), as many bytes of String
//	blocks: a number n of rows (4), their names (8 each), values and state (4 each), CRC-32C of the block so far (4)
//	a block of n = 0 with the number of all rows (8) in place of names, and its CRC-32C (4)
//
// n is at most perCall, so that neither side needs memory for more than one block.

const (
	magic = "coveytbl"
	// longest bounds what a snapshot can say of itself.
	longest = 1 << 12
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Snapshot writes all rows, with their state, to w. Tables with the same rows write the same bytes, whatever their budgets
// and whichever way the rows came. It reads as Each does: who wants the rows of one moment keeps updates away meanwhile.
func (t *Table) Snapshot(w io.Writer) error { return t.fail("Snapshot", t.snapshot(w)) }

func (t *Table) snapshot(w io.Writer) error {
	about := t.String()
	buf := append(le.AppendUint32([]byte(magic), uint32(len(about))), about...)
	if _, err := w.Write(buf); err != nil {
		return err
	}
	total := 0
	err := t.walk(func(rows []uint64, values []float32) error {
		total += len(rows)
		buf = le.AppendUint32(buf[:0], uint32(len(rows)))
		for _, r := range rows {
			buf = le.AppendUint64(buf, r)
		}
		return writeBlock(w, buf, vec.Bytes(values))
	})
	if err != nil {
		return err
	}
	buf = le.AppendUint64(le.AppendUint32(buf[:0], 0), uint64(total))
	return writeBlock(w, buf, nil)
}

func writeBlock(w io.Writer, head, values []byte) error {
	sum := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, values)
	for _, p := range [][]byte{head, values, le.AppendUint32(nil, sum)} {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// Load stores the rows of a snapshot, over those that are there, and reads not a byte more. The snapshot's table must be like
// this one: name, width, seed, initial values and the rule's state. After an error some rows may be stored and some not.
func (t *Table) Load(r io.Reader) error {
	err := t.load(r)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return t.fail("Load", err)
}

func (t *Table) load(r io.Reader) error { return t.read(r, t.put) }

// Read calls f with the rows of a snapshot of a table like this one, some at a time, with their rule's state, until f fails; f keeps neither
// slice. It stores nothing.
func (t *Table) Read(r io.Reader, f func(rows []uint64, values []float32) error) error {
	err := t.read(r, f)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return t.fail("Read", err)
}

func (t *Table) read(r io.Reader, f func(rows []uint64, values []float32) error) error {
	var head [len(magic) + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := le.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic || n > longest {
		return errors.New("this is not a snapshot of a table")
	}
	about := make([]byte, n)
	if _, err := io.ReadFull(r, about); err != nil {
		return err
	}
	if string(about) != t.String() {
		return fmt.Errorf("the snapshot is of %q, and this is %q", about, t)
	}
	var names []byte
	var rows []uint64
	var values []float32
	for total := uint64(0); ; {
		if _, err := io.ReadFull(r, head[:4]); err != nil {
			return err
		}
		sum := crc32.Checksum(head[:4], castagnoli)
		n := int(le.Uint32(head[:4]))
		if n > t.perCall() {
			return fmt.Errorf("a block of %d rows, expected at most %d", n, t.perCall())
		}
		words := max(1, n)
		names = slices.Grow(names[:0], 8*words)[:8*words]
		values = slices.Grow(values[:0], n*t.stride)[:n*t.stride]
		for _, p := range [][]byte{names, vec.Bytes(values)} {
			if _, err := io.ReadFull(r, p); err != nil {
				return err
			}
			sum = crc32.Update(sum, castagnoli, p)
		}
		if _, err := io.ReadFull(r, head[:4]); err != nil {
			return err
		}
		if le.Uint32(head[:4]) != sum {
			return fmt.Errorf("the block after row %d is damaged: its checksum is %08x, and %08x is written there", total, sum, le.Uint32(head[:4]))
		}
		if n == 0 {
			if said := le.Uint64(names); said != total {
				return fmt.Errorf("the snapshot ends after %d rows of %d", total, said)
			}
			return nil
		}
		rows = rows[:0]
		for i := range n {
			rows = append(rows, le.Uint64(names[8*i:]))
		}
		if err := f(rows, values); err != nil {
			return err
		}
		total += uint64(n)
	}
}
