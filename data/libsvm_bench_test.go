package data

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// BenchmarkLIBSVM reads rows as text mining has them: bytes of text a second.
func BenchmarkLIBSVM(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var text strings.Builder
	for range 5000 {
		fmt.Fprintf(&text, "%+d", 2*r.IntN(2)-1)
		col := 0
		for range 60 {
			col += 1 + r.IntN(1500)
			fmt.Fprintf(&text, " %d:%.4g", col, r.Float64())
		}
		text.WriteString("\n")
	}
	p := []byte(text.String())
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readLIBSVM(b.Context(), "text", bytesSource("text", p), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
