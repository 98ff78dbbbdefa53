package ps

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/vec"
)

// sparse is some rows of a table, increasing, each with as many numbers as a row of the table has, or more. A row that is not
// among them is not 0: it is not there.
type sparse struct {
	rows []uint64
	x    []float32
}

func (s sparse) empty() sparse { return sparse{s.rows[:0], s.x[:0]} }

// merge writes a+b to dst, whose memory is neither's. A row that only one of them has is as that has it.
func merge(dst, a, b sparse, width int) sparse {
	dst = dst.empty()
	i, j := 0, 0
	for i < len(a.rows) || j < len(b.rows) {
		switch {
		case j == len(b.rows) || i < len(a.rows) && a.rows[i] < b.rows[j]:
			dst.rows = append(dst.rows, a.rows[i])
			dst.x = append(dst.x, a.x[i*width:(i+1)*width]...)
			i++
		case i == len(a.rows) || b.rows[j] < a.rows[i]:
			dst.rows = append(dst.rows, b.rows[j])
			dst.x = append(dst.x, b.x[j*width:(j+1)*width]...)
			j++
		default:
			dst.rows = append(dst.rows, a.rows[i])
			for k, v := range a.x[i*width : (i+1)*width] {
				dst.x = append(dst.x, v+b.x[j*width+k])
			}
			i++
			j++
		}
	}
	return dst
}

// over writes the rows that are in s to x, where rows are.
func (s sparse) over(rows []uint64, x []float32, width int) {
	j := 0
	for i, row := range rows {
		for j < len(s.rows) && s.rows[j] < row {
			j++
		}
		if j < len(s.rows) && s.rows[j] == row {
			copy(x[i*width:(i+1)*width], s.x[j*width:])
		}
	}
}

// cloneAll writes a copy of all to the memory of dst.
func cloneAll(dst, all []sparse) []sparse {
	dst = slices.Grow(dst[:0], len(all))[:len(all)]
	for t, s := range all {
		dst[t] = sparse{append(dst[t].rows[:0], s.rows...), append(dst[t].x[:0], s.x...)}
	}
	return dst
}

// mergeAll is merge of each table.
func mergeAll(dst, a, b []sparse, tables []model.Table) []sparse {
	dst = slices.Grow(dst[:0], len(tables))[:len(tables)]
	for t := range tables {
		dst[t] = merge(dst[t], a[t], b[t], tables[t].Width)
	}
	return dst
}

// appendRows appends how many rows there are, a varint, and, unless there are none, a byte: how many bytes a gap has. Then come the
// gaps: the first row, and by how much each is more than the one before and one. Rows that do not increase cannot be said.
func appendRows(b []byte, rows []uint64) []byte {
	b = binary.AppendUvarint(b, uint64(len(rows)))
	if len(rows) == 0 {
		return b
	}
	widest, next := uint64(0), uint64(0)
	for _, r := range rows {
		widest, next = max(widest, r-next), r+1
	}
	width := max(1, (bits.Len64(widest)+7)/8)
	b = append(b, byte(width))
	at := len(b)
	b = slices.Grow(b, width*len(rows)+8)[:at+width*len(rows)+8] // a gap is written as 8 bytes, and the next one over what is 0 of it
	next = 0
	for _, r := range rows {
		binary.LittleEndian.PutUint64(b[at:], r-next)
		next, at = r+1, at+width
	}
	return b[:at]
}

// readRows reads what appendRows wrote of a table's rows, in rows' memory, and returns what follows.
func readRows(rows []uint64, b []byte, t model.Table) ([]uint64, []byte, error) {
	n, k := binary.Uvarint(b)
	if k > 0 {
		b = b[k:]
	}
	switch {
	case k <= 0 || n > uint64(len(b)): // a row takes a byte at least
		return rows, nil, fmt.Errorf("%d bytes do not hold as many rows of table %q as they say", len(b), t.Name)
	case n == 0:
		return rows[:0], b, nil
	}
	width := int(b[0])
	b = b[1:]
	switch {
	case width < 1 || width > 8:
		return rows, nil, fmt.Errorf("the rows of table %q have gaps of %d bytes", t.Name, width)
	case n > uint64(len(b)/width):
		return rows, nil, fmt.Errorf("the rows of table %q end in the midst", t.Name)
	}
	rows = slices.Grow(rows[:0], int(n))[:n]
	mask := uint64(1)<<(8*width) - 1
	next := uint64(0)
	for i := range rows {
		var gap uint64
		if len(b) >= 8 {
			gap = binary.LittleEndian.Uint64(b) & mask
		} else {
			var last [8]byte
			copy(last[:], b)
			gap = binary.LittleEndian.Uint64(last[:]) & mask
		}
		row := next + gap
		if row < next {
			return rows, nil, fmt.Errorf("row %d of table %q comes after row %d: rows must increase", row, t.Name, next-1)
		}
		if row >= t.Rows {
			return rows, nil, fmt.Errorf("row %d of table %q, which has %d", row, t.Name, t.Rows)
		}
		rows[i], next, b = row, row+1, b[width:]
	}
	return rows, b, nil
}

// A message of rows with numbers, which goes along with a push and when tables are gathered, is little endian:
//
//	0  uint32  how many numbers; 4  uint32  how many bytes of rows
//	8  the numbers, float32: of each part, table after table, row after row
//	.. the rows of each part, table after table, as appendRows writes them
//	.. zeros, up to a multiple of 4 bytes
const rowsHead = 2

// rowsMessage is one that is being put together.
type rowsMessage struct {
	g   comm.Group // in whose memory it is; nil: on the heap
	m   []float32
	ids []byte
}

func (r *rowsMessage) begin() {
	r.m, r.ids = r.m[:0], r.ids[:0]
	clear(r.more(rowsHead))
}

// more makes the message longer by n numbers, of any value, and returns them.
func (r *rowsMessage) more(n int) []float32 {
	r.m = longer(r.g, r.m, n)
	return r.m[len(r.m)-n:]
}

// longer is x with n more numbers, of any value. New memory is the group's own, where a transport may have to copy less of it; since
// that is never given back, it is twice as much.
func longer(g comm.Group, x []float32, n int) []float32 {
	at := len(x)
	switch {
	case at+n <= cap(x):
	case g == nil || comm.IsHollow(g):
		x = slices.Grow(x, n)
	default:
		x = append(comm.Alloc(g, max(at+n, 2*cap(x)))[:0], x...)
	}
	return x[:at+n]
}

// end returns the message, which is valid until begin.
func (r *rowsMessage) end() ([]byte, error) {
	values := len(r.m) - rowsHead
	if n := uint64(4*len(r.m) + len(r.ids)); n > mostBytes {
		return nil, fmt.Errorf("rows of %d bytes for one server, at most %d: take smaller batches, or more servers", n, mostBytes)
	}
	r.m[0], r.m[1] = math.Float32frombits(uint32(values)), math.Float32frombits(uint32(len(r.ids)))
	tail := r.more((len(r.ids) + 3) / 4)
	clear(tail)
	copy(vec.Bytes(tail), r.ids)
	return vec.Bytes(r.m), nil
}

// of is the message of one part, valid until the next begin.
func (r *rowsMessage) of(part []sparse) ([]byte, error) {
	r.begin()
	for _, s := range part {
		r.m, r.ids = append(r.m, s.x...), appendRows(r.ids, s.rows)
	}
	return r.end()
}

// decodeRowsMessage reads one of so many parts, in the memory of into. Numbers alias m. widths has a row's numbers, by table.
func decodeRowsMessage(into [][]sparse, m []float32, parts int, tables []model.Table, widths []int) ([][]sparse, error) {
	if len(m) < rowsHead {
		return into, fmt.Errorf("a message of rows of %d bytes", 4*len(m))
	}
	values, bytes := uint64(math.Float32bits(m[0])), uint64(math.Float32bits(m[1]))
	if m = m[rowsHead:]; values > uint64(len(m)) || (bytes+3)/4 != uint64(len(m))-values {
		return into, fmt.Errorf("a message of rows with %d numbers and %d bytes of rows in %d bytes", values, bytes, 4*len(m))
	}
	x, ids := m[:values], vec.Bytes(m[values:])[:bytes]
	into = slices.Grow(into[:0], parts)[:parts]
	for p := range into {
		into[p] = slices.Grow(into[p][:0], len(tables))[:len(tables)]
		for t := range tables {
			s := &into[p][t]
			var err error
			if s.rows, ids, err = readRows(s.rows, ids, tables[t]); err != nil {
				return into, err
			}
			n := len(s.rows) * widths[t]
			if n > len(x) {
				return into, fmt.Errorf("%d rows of table %q, of %d numbers each, and %d numbers are left", len(s.rows), tables[t].Name, widths[t], len(x))
			}
			s.x, x = x[:n:n], x[n:]
		}
	}
	if len(x) > 0 || len(ids) > 0 {
		return into, fmt.Errorf("%d numbers and %d bytes of rows too many", len(x), len(ids))
	}
	return into, nil
}
