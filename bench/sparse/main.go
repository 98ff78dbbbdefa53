// Sparse writes a made classification problem in LIBSVM format to standard output: the larger set that the solvers are
// measured on.
//
//	go run ./bench/sparse -rows 200000 -features 50000 -nonzeros 60 -seed 1 > sparse.svm
//
// Each row has that many different columns, drawn as words of a text are: column k with a chance of about 1/k. Values are
// multiples of 1/1000 in (0, 1]. A weight vector that is zero but in every tenth column gives each row a score; noise is
// added, its sign is the label, and one label in ten is turned round. The same flags give the same bytes everywhere.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

func main() {
	rows := flag.Int("rows", 200000, "samples")
	features := flag.Int("features", 50000, "columns")
	nonzeros := flag.Int("nonzeros", 60, "columns of a row that are not zero")
	seed := flag.Uint64("seed", 1, "of everything random")
	flag.Parse()
	if *rows < 1 || *nonzeros < 1 || *features < 2**nonzeros {
		fmt.Fprintln(os.Stderr, "sparse: at least one row and one nonzero are needed, and twice as many features as nonzeros")
		os.Exit(2)
	}
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	err := write(out, *rows, *features, *nonzeros, *seed)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sparse:", err)
		os.Exit(1)
	}
}

func write(out io.Writer, rows, features, nonzeros int, seed uint64) error {
	weights := make([]float64, features)
	r := rng.New(seed, "bench/sparse/weights")
	for k := 0; k < features; k += 10 {
		weights[k] = normal(r)
	}
	log := vec.Log64(float64(features))
	col := make([]int, 0, nonzeros)
	var line []byte
	for i := range rows {
		r := rng.New(seed, "bench/sparse/row", uint64(i))
		for col = col[:0]; len(col) < nonzeros; {
			k := min(int(vec.Exp64(r.Float64()*log))-1, features-1) // log-uniform: about 1/k
			at, taken := slices.BinarySearch(col, k)
			if !taken {
				col = slices.Insert(col, at, k)
			}
		}
		score := normal(r) / 2
		line = append(line[:0], "+1"...)
		for _, k := range col {
			v := 1 + r.Uint64N(1000)
			score += float64(weights[k] * (float64(v) / 1000))
			line = append(line, ' ')
			line = strconv.AppendInt(line, int64(k+1), 10)
			line = append(line, ':')
			line = strconv.AppendFloat(line, float64(v)/1000, 'g', -1, 64)
		}
		if turned := r.Uint64N(10) == 0; score < 0 != turned {
			line[0] = '-'
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// normal is the sum of twelve uniform draws, less six: mean 0, deviation 1, and no function whose bits differ by processor.
func normal(r *rand.Rand) float64 {
	sum := -6.0
	for range 12 {
		sum += r.Float64()
	}
	return sum
}
