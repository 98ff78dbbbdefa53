package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/data"
)

// tensorView is a tensor in brief. Min, Mean and Max are those of its finite elements; they are nil when there are none,
// or for a type whose elements are not looked at.
type tensorView struct {
	Name      string     `json:"name"`
	Type      ckpt.DType `json:"dtype"`
	Shape     []int      `json:"shape"`
	Bytes     int        `json:"bytes"`
	Shard     ckpt.Shard `json:"shard,omitempty"`
	Min       *float64   `json:"min"`
	Mean      *float64   `json:"mean"`
	Max       *float64   `json:"max"`
	NotFinite int        `json:"not_finite,omitempty"` // NaN or infinite elements
}

func viewTensors(ts []ckpt.Tensor) []tensorView {
	out := make([]tensorView, len(ts))
	for i, t := range ts {
		out[i] = viewTensor(t)
	}
	return out
}

func viewTensor(t ckpt.Tensor) tensorView {
	v := tensorView{Name: t.Name, Type: t.Type, Shape: t.Shape, Bytes: len(t.Data), Shard: t.Shard}
	if v.Shape == nil {
		v.Shape = []int{}
	}
	size, read := element(t.Type)
	if read == nil {
		return v
	}
	n, sum := 0, 0.0
	low, high := math.Inf(1), math.Inf(-1)
	for at := 0; at+size <= len(t.Data); at += size {
		x := read(t.Data[at:])
		if math.IsNaN(x) || math.IsInf(x, 0) {
			v.NotFinite++
			continue
		}
		n++
		sum += x
		low, high = min(low, x), max(high, x)
	}
	if mean := sum / float64(n); n > 0 && !math.IsInf(mean, 0) {
		v.Min, v.Mean, v.Max = &low, &mean, &high
	}
	return v
}

// element is the size of an element in bytes and how it is read, nil for types that are not looked at.
func element(t ckpt.DType) (size int, read func([]byte) float64) {
	le := binary.LittleEndian
	switch t {
	case ckpt.F32:
		return 4, func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) }
	case ckpt.F64:
		return 8, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }
	case ckpt.I64:
		return 8, func(b []byte) float64 { return float64(int64(le.Uint64(b))) }
	case ckpt.U64:
		return 8, func(b []byte) float64 { return float64(le.Uint64(b)) }
	case ckpt.U8, "BOOL":
		return 1, func(b []byte) float64 { return float64(b[0]) }
	case "I8":
		return 1, func(b []byte) float64 { return float64(int8(b[0])) }
	case "I16":
		return 2, func(b []byte) float64 { return float64(int16(le.Uint16(b))) }
	case "U16":
		return 2, func(b []byte) float64 { return float64(le.Uint16(b)) }
	case "I32":
		return 4, func(b []byte) float64 { return float64(int32(le.Uint32(b))) }
	case "U32":
		return 4, func(b []byte) float64 { return float64(le.Uint32(b)) }
	case "BF16":
		return 2, func(b []byte) float64 { return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16)) }
	case "F16":
		return 2, func(b []byte) float64 { return half(le.Uint16(b)) }
	}
	return 0, nil
}

// half is an IEEE 754 half-precision number.
func half(b uint16) float64 {
	sign, exponent, fraction := 1.0, int(b>>10&31), float64(b&1023)
	if b>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

func printTensors(out io.Writer, ts []tensorView) error {
	if len(ts) == 0 {
		_, err := fmt.Fprintln(out, "  no tensors")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "  tensor\ttype\tshape\tsize\tmin\tmean\tmax\n")
	total := 0
	for _, t := range ts {
		note := ""
		if t.NotFinite > 0 {
			note = fmt.Sprintf("\t%s not finite", thousands(t.NotFinite))
		}
		if what := shardText(t); what != "" {
			note += "\t" + what
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s%s\n", t.Name, t.Type, shapeText(t.Shape), bytes(int64(t.Bytes)),
			numberText(t.Min), numberText(t.Mean), numberText(t.Max), note)
		total += t.Bytes
	}
	if len(ts) > 1 {
		fmt.Fprintf(w, "  %s\t\t\t%s\n", count(len(ts), "tensor"), bytes(int64(total)))
	}
	return w.Flush()
}

// shardText says whose the rows of a tensor are, "" when it is the same on every worker.
func shardText(t tensorView) string {
	rows := 0
	if len(t.Shape) > 0 {
		rows = t.Shape[0]
	}
	switch t.Shard {
	case "", ckpt.Replicated:
		return ""
	case ckpt.Summed:
		return fmt.Sprintf("parts of a sum, of %s", count(rows, "worker"))
	case ckpt.PerClient:
		return fmt.Sprintf("one for each of %s", count(rows, "microshard"))
	}
	return string(t.Shard)
}

func shapeText(shape []int) string {
	parts := make([]string, len(shape))
	for i, n := range shape {
		parts[i] = itoa(n)
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func numberText(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.4g", *v)
}

// table is two columns: names and what they are.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer) table { return table{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)} }

func (t table) row(name, format string, args ...any) {
	fmt.Fprintf(t.w, "%s\t"+format+"\n", append([]any{name}, args...)...)
}

func (t table) flush() error { return t.w.Flush() }

func hashOf(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// schemaText says in words what data a checkpoint was trained on.
func schemaText(m ckpt.Manifest) (ok bool, text string) {
	var s *data.Schema
	if m.Get("data", &s) != nil || s == nil {
		return false, ""
	}
	var n int
	samples := ""
	if m.Get("samples", &n) == nil {
		samples = count(n, "sample") + " of "
	}
	text = samples + count(s.Dim, "feature")
	if len(s.Shape) > 1 {
		text += " " + shapeText(s.Shape)
	}
	if s.Task == data.Classification {
		return true, text + fmt.Sprintf(" (%s), %s classes", s.Format, thousands(s.Classes))
	}
	return true, text + fmt.Sprintf(" (%s), %s to predict", s.Format, count(s.Targets, "number"))
}
