package ckpt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
)

// Piece says that a tensor holds a range of a larger one's elements, in row-major order: those from From on. Its own
// shape has the one dimension of what it holds.
type Piece struct {
	From  int   `json:"from"`
	Whole []int `json:"whole"` // the shape of the larger tensor
}

func (p Piece) String() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers alone
	}
	return string(b)
}

func parsePiece(text string) (p Piece, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err = d.Decode(&p); err != nil {
		return p, fmt.Errorf("piece %.100q: %w", text, err)
	}
	return p, nil
}

func (t Tensor) checkPiece() error {
	n, ok := product(t.Piece.Whole)
	if !ok || len(t.Piece.Whole) > maxDims {
		return fmt.Errorf("a piece of shape %v: negative or too large", t.Piece.Whole)
	}
	if from := int64(t.Piece.From); len(t.Shape) != 1 || from < 0 || from > n || int64(t.Shape[0]) > n-from {
		return fmt.Errorf("a piece of shape %v from element %d on does not lie in a tensor of shape %v", t.Shape, from, t.Piece.Whole)
	}
	return nil
}

// Cut returns part i of k of the tensors, from 0: an equal share of their bytes, in their order. A tensor that two parts
// share comes as a Piece in each. Data aliases what was given. The parts of all i, one after another, Join to the
// tensors. It panics when i is not in [0, k).
func Cut(tensors []Tensor, i, k int) []Tensor {
	if i < 0 || i >= k {
		panic(fmt.Sprintf("ckpt: part %d of %d", i, k))
	}
	total := size(tensors)
	return cut(tensors, share(total, i, k), share(total, i+1, k), i == k-1)
}

// cut returns the elements that begin in the byte range [lo, hi) of the tensors. The last range has what is empty at their end.
func cut(tensors []Tensor, lo, hi int, last bool) []Tensor {
	var out []Tensor
	at := 0
	for _, t := range tensors {
		begin, end := at, at+len(t.Data)
		at = end
		size := t.Type.Size()
		if len(t.Data) == 0 || size == 0 || t.Piece != nil { // not to be divided: whole, with its first byte
			if begin >= lo && begin < hi || last && begin >= hi {
				out = append(out, t)
			}
			continue
		}
		from := (max(lo, begin) - begin + size - 1) / size
		to := (min(hi, end) - begin + size - 1) / size
		switch n := len(t.Data) / size; {
		case from >= to:
		case from == 0 && to == n:
			out = append(out, t)
		default:
			p := t
			p.Piece = &Piece{From: from, Whole: slices.Clone(t.Shape)}
			p.Shape = []int{to - from}
			p.Data = t.Data[from*size : to*size : to*size]
			out = append(out, p)
		}
	}
	return out
}

// Divide returns part i of k, from 0, of a checkpoint of which each worker could write all. Of the model a part has whole tensors,
// those whose middle lies in its equal share of the bytes, so that other tools can read it. The state is cut so that the parts
// become equal, as far as that goes. Data aliases what was given. It panics when i is not in [0, k).
func Divide(model, state []Tensor, i, k int) Part {
	if i < 0 || i >= k {
		panic(fmt.Sprintf("ckpt: part %d of %d", i, k))
	}
	p := Part{Index: i, Of: k}
	total := size(model)
	room := make([]int, k) // bytes of state that it takes for a part to become as large as the mean
	for j := range room {
		room[j] = (total + size(state) + k - 1) / k
	}
	at := 0
	for _, t := range model {
		middle := at + len(t.Data)/2
		at += len(t.Data)
		j := sort.Search(k-1, func(j int) bool { return middle < share(total, j+1, k) })
		if room[j] -= len(t.Data); j == i {
			p.Model = append(p.Model, t)
		}
	}
	all, before := 0, 0
	for j, r := range room {
		r = max(0, r)
		if all += r; j < i {
			before += r
		}
	}
	// Where part of the state's bytes ends, of which there are no more than there is room for.
	end := func(room int) int {
		if room == all {
			return size(state)
		}
		return int(float64(size(state)) * float64(room) / float64(all))
	}
	p.State = cut(state, end(before), end(before+max(0, room[i])), i == k-1)
	return p
}

// size is the bytes of tensors.
func size(tensors []Tensor) (n int) {
	for _, t := range tensors {
		n += len(t.Data)
	}
	return n
}

// share is where part i of k of n begins, with no product that overflows.
func share(n, i, k int) int { return n/k*i + n%k*i/k }

// Join puts pieces together. A whole tensor stays where it is; one that comes in pieces stands where its first piece
// does, and all its pieces must be there, once, in order, of one type, shape and Shard. What has no pieces is returned
// as it is, and aliases what was given.
func Join(tensors []Tensor) ([]Tensor, error) {
	held := map[string]int64{} // bytes that all pieces of a name have, so that no more is taken than was given
	for _, t := range tensors {
		if t.Piece != nil {
			held[t.Name] += int64(len(t.Data))
		}
	}
	if len(held) == 0 {
		return tensors, nil
	}
	var out []Tensor
	at := map[string]int{} // where in out a name is
	for _, t := range tensors {
		if t.Piece == nil {
			out = append(out, t)
			continue
		}
		size, err := byteLen(t.Type, t.Piece.Whole)
		if err == nil {
			err = t.checkPiece()
		}
		if err == nil && int64(len(t.Data)) != int64(t.Shape[0])*int64(t.Type.Size()) {
			err = fmt.Errorf("%s %v with %d bytes", t.Type, t.Shape, len(t.Data))
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		i, begun := at[t.Name]
		if !begun {
			if size != held[t.Name] {
				return nil, fmt.Errorf("tensor %q: its pieces have %d bytes, %s %v takes %d", t.Name, held[t.Name], t.Type, t.Piece.Whole, size)
			}
			i = len(out)
			at[t.Name] = i
			out = append(out, Tensor{Name: t.Name, Type: t.Type, Shape: slices.Clone(t.Piece.Whole), Shard: t.Shard, Data: make([]byte, 0, size)})
		}
		w := &out[i]
		switch {
		case t.Type != w.Type || t.Shard != w.Shard || !slices.Equal(t.Piece.Whole, w.Shape):
			return nil, fmt.Errorf("tensor %q: a piece is of %s %v %s, another of %s %v %s", t.Name, w.Type, w.Shape, w.Shard, t.Type, t.Piece.Whole, t.Shard)
		case t.Piece.From*t.Type.Size() != len(w.Data):
			return nil, fmt.Errorf("tensor %q: a piece begins at element %d, the one before it ends at %d", t.Name, t.Piece.From, len(w.Data)/t.Type.Size())
		}
		w.Data = append(w.Data, t.Data...)
	}
	return out, nil // every byte that a whole needs was there and lay in order
}
