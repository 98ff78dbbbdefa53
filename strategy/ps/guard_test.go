package ps

import (
	"math"
	"strings"
	"testing"
)

func TestGuard(t *testing.T) {
	for _, c := range []struct {
		name string
		loss func(i int) float64
		want string // in the reason; empty: all is well
	}{
		{"falls", func(i int) float64 { return 2 / (1 + float64(i)/100) }, ""},
		{"stays", func(int) float64 { return 2.3 }, ""},
		{"falls slowly, and the first are low by chance", func(i int) float64 { return 2.3 - float64(i)/500 + 0.3*math.Sin(float64(i*i)-2) }, ""},
		{"stays too high for long", func(i int) float64 { return 2.3 + 0.3*math.Sin(float64(i*i)-2) }, "more than the 2.29 of the first ones"},
		{"rises", func(i int) float64 { return 2.3 + float64(i)/1000 }, "more than the 2.3 of the first ones"},
		{"falls and rises", func(i int) float64 { return max(0.1, 2-float64(i)/50) + float64(i/200)*1.2 }, "from 1.97 down to 0.1 is lost again"},
		{"one bad push", func(i int) float64 {
			if i == 150 {
				return 9
			}
			return 2 / (1 + float64(i)/100)
		}, ""},
	} {
		g, why := newGuard(4, patience), ""
		for i := 0; i < 400 && why == ""; i++ {
			why = g.push(c.loss(i))
		}
		if !strings.Contains(why, c.want) || (why == "") != (c.want == "") {
			t.Errorf("%s: %q, expected %q", c.name, why, c.want)
		}
	}
}
