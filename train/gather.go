package train

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/covey-ml/covey/comm"
)

// Workers agree by way of rank 0: what they say comes to it along a tree, it decides, and its decision goes to all. That is
// 4(P-1) messages for P workers, and nobody but rank 0 reads what everybody says. On a hollow group, whose messages say
// nothing, a worker decides by what it says itself.

// alone tells whether nobody hears this worker, nor it anybody.
func alone(g comm.Group) bool { return g == nil || g.Size() == 1 || comm.IsHollow(g) }

// decide brings the values of all workers to rank 0, by rank, and gives every worker what f there makes of them, or the
// error in its words.
func decide[T, R any](ctx context.Context, g comm.Group, mine T, f func(all []T) (R, error)) (R, error) {
	var out R
	if alone(g) {
		return f([]T{mine})
	}
	b, err := json.Marshal(mine)
	if err != nil {
		return out, err
	}
	b, err = comm.GatherBytes(ctx, g, framed(b), func(held, came []byte) ([]byte, error) { return append(held, came...), nil })
	if err == nil && g.Rank() == 0 {
		var all []T
		if all, err = unframed[T](b, g.Size()); err == nil {
			out, err = f(all)
		}
	} else if err != nil {
		return out, err
	}
	return tell(ctx, g, out, err)
}

// framed puts its length in front of b.
func framed(b []byte) []byte {
	return append(binary.AppendUvarint(make([]byte, 0, len(b)+binary.MaxVarintLen64), uint64(len(b))), b...)
}

// unframed reads the values of n workers.
func unframed[T any](b []byte, n int) ([]T, error) {
	all := make([]T, n)
	for rank := range all {
		size, k := binary.Uvarint(b)
		if k <= 0 || size > uint64(len(b)-k) {
			return nil, fmt.Errorf("train: what worker %d says of itself ends in its middle", rank)
		}
		if err := json.Unmarshal(b[k:k+int(size)], &all[rank]); err != nil {
			return nil, fmt.Errorf("train: what worker %d says of itself: %w", rank, err)
		}
		b = b[k+int(size):]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("train: %d bytes beyond what %d workers say of themselves", len(b), n)
	}
	return all, nil
}

// word is what rank 0 tells.
type word[R any] struct {
	Value R
	Err   string `json:",omitempty"`
	Key   string `json:",omitempty"` // of a ConfigError in it
	Why   string `json:",omitempty"` // what that says
}

// tell gives every worker the value of rank 0, or its error, in the same words.
func tell[R any](ctx context.Context, g comm.Group, v R, err error) (R, error) {
	if alone(g) {
		return v, err
	}
	var b []byte
	if g.Rank() == 0 {
		if err == nil {
			b, err = json.Marshal(word[R]{Value: v})
		}
		if err != nil {
			w := word[R]{Err: err.Error()}
			var config *ConfigError
			if errors.As(err, &config) {
				w.Key, w.Why = config.Key, config.Err.Error()
			}
			b, _ = json.Marshal(w) // of the zero value and strings: it cannot fail
		}
	}
	heard, bad := tellBytes(ctx, g, 0, b)
	if bad != nil {
		return v, bad
	}
	if g.Rank() == 0 {
		return v, err
	}
	var w word[R]
	if err := json.Unmarshal(heard, &w); err != nil {
		return v, fmt.Errorf("train: what worker 0 tells: %w", err)
	}
	switch {
	case w.Key != "":
		return w.Value, &toldError{w.Err, &ConfigError{Key: w.Key, Err: errors.New(w.Why)}}
	case w.Err != "":
		return w.Value, errors.New(w.Err)
	}
	return w.Value, nil
}

// tellBytes gives every worker the bytes of one of them.
func tellBytes(ctx context.Context, g comm.Group, from comm.Rank, b []byte) ([]byte, error) {
	size := binary.LittleEndian.AppendUint64(nil, uint64(len(b)))
	if err := comm.Broadcast(ctx, g, from, size); err != nil {
		return nil, err
	}
	return spread(ctx, g, from, b, int(min(binary.LittleEndian.Uint64(size), mostTold)))
}

// mostTold bounds what a worker tells, in bytes.
const mostTold = 1 << 30

// toldError is another worker's error around a ConfigError.
type toldError struct {
	text   string
	config *ConfigError
}

func (e *toldError) Error() string { return e.text }

// Unwrap returns the ConfigError.
func (e *toldError) Unwrap() error { return e.config }
