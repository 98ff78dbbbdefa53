package optim

import (
	"math"
	"testing"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
)

func parse(t testing.TB, s string) *spec.Spec {
	t.Helper()
	sp, err := spec.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return sp
}

func make1(t testing.TB, s string, l model.Layout) Optimizer {
	t.Helper()
	o, err := New(parse(t, s), l)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestByHand holds each rule to its published equations, worked by hand in the comments. Numbers without an end are
// given to nine digits; the results must agree to float32's rounding of a few operations, 5e-7.
func TestByHand(t *testing.T) {
	one := model.Layout{}.Add("w", 1)
	// Two layers for the rules that treat each by itself: w is (3, 4), of norm 5, and b starts at 0.
	two := model.Layout{}.Add("w", 2).Add("b", 1)
	for _, c := range []struct {
		rule  string
		rate  float32
		l     model.Layout
		x     []float32
		grads [][]float32
		want  [][]float64 // x after each update
	}{
		// x = 1 - 0.1*0.5, then 0.95 - 0.1*0.25.
		{"sgd", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.95}, {0.925}}},
		// g + 0.1*x: 0.5+0.1 = 0.6, x = 0.94; 0.25+0.094 = 0.344, x = 0.9056.
		{"sgd:weight_decay=0.1", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.94}, {0.9056}}},
		// v = 0.5; 0.9*0.5 + 0.25 = 0.7; 0.9*0.7 - 0.1 = 0.53. x loses 0.1*v each time.
		{"momentum", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}, {-0.1}}, [][]float64{{0.95}, {0.88}, {0.827}}},
		// The same, asked for in two other ways.
		{"momentum:0.9", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}, {-0.1}}, [][]float64{{0.95}, {0.88}, {0.827}}},
		{"sgd:momentum=0.9", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}, {-0.1}}, [][]float64{{0.95}, {0.88}, {0.827}}},
		// x shrinks by 1-0.1*0.5 = 0.95 first: 0.95-0.05 = 0.9; 0.855-0.07 = 0.785.
		{"momentum:weight_decay=0.5,decoupled=true", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.9}, {0.785}}},
		// Dampening spares the first: v = 0.5; 0.45 + 0.5*0.25 = 0.575; 0.5175 - 0.5*0.1 = 0.4675.
		{"momentum:dampening=0.5", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}, {-0.1}}, [][]float64{{0.95}, {0.8925}, {0.84575}}},
		// g + 0.9*v with v as above: 0.5+0.45 = 0.95; 0.25+0.63 = 0.88; -0.1+0.477 = 0.377.
		{"nesterov", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}, {-0.1}}, [][]float64{{0.905}, {0.817}, {0.7793}}},
		// s = 0.25: 0.5/0.5 = 1; s = 0.3125: 0.25/0.559016994 = 0.447213595; s = 0.3225: -0.1/0.567890835 = -0.176090182.
		{"adagrad", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}, {-0.1}}, [][]float64{{0.9}, {0.855278640}, {0.872887659}}},
		// s = 0.75+0.25 = 1: x = 1 - 0.1*0.5; rate 0.1/1.5, s = 1.0625: x = 0.95 - 0.0666666667*0.25/1.03077641.
		{"adagrad:lr_decay=0.5,initial_accumulator_value=0.75", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.95}, {0.933830958}}},
		// s = 0.1*0.25 = 0.025: 0.5/0.158113883 = 3.16227766; s = 0.0225+0.00625 = 0.02875: 0.25/0.169558250 = 1.47441956.
		{"rmsprop:alpha=0.9", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.683772234}, {0.536330278}}},
		// The same u, gathered: v = 3.16227766; 1.58113883+1.47441956 = 3.05555839.
		{"rmsprop:alpha=0.9,momentum=0.5", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.683772234}, {0.378216395}}},
		// a = 0.05, s-a*a = 0.0225: 0.5/0.15 = 3.33333333; a = 0.07, 0.02875-0.0049 = 0.02385: 0.25/0.154434452 = 1.61880977.
		{"rmsprop:alpha=0.9,centered=true", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.666666667}, {0.504785690}}},
		// t=1: m/(1-0.9) = 0.5, v/(1-0.999) = 0.25: ratio 1.
		// t=2: m = 0.045+0.025 = 0.07, over 0.19: 0.368421053; v = 0.00024975+0.0000625 = 0.00031225, over 0.001999:
		// 0.156203102, root 0.395225381; ratio 0.932179639.
		{"adam", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.9}, {0.806782036}}},
		// g + 0.1*x: 0.6, ratio 1; 0.25+0.09 = 0.34: m = 0.054+0.034 = 0.088, over 0.19: 0.463157895;
		// v = 0.00035964+0.0001156 = 0.00047524, over 0.001999: 0.237738869, root 0.487584730; ratio 0.949902377.
		{"adam:weight_decay=0.1", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.9}, {0.805009762}}},
		// x first shrinks by 1-0.1*0.1 = 0.99: 0.99-0.1 = 0.89; 0.8811-0.0932179639 = 0.787882036.
		{"adamw:weight_decay=0.1", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.89}, {0.787882036}}},
		// Left at its default, decay is 0.01: 0.999-0.1 = 0.899.
		{"adamw", 0.1, one, []float32{1}, [][]float32{{0.5}}, [][]float64{{0.899}}},
		// v = 0.5, then 0.25+0.005 = 0.255, below 0.5, which stays. m/0.19 = (0.09+0.01)/0.19 = 0.526315789, over
		// sqrt(0.5/0.75) = 0.816496581: 0.644602564.
		{"adam:beta2=0.5,amsgrad=true", 0.1, one, []float32{1}, [][]float32{{1}, {0.1}}, [][]float64{{0.9}, {0.835539744}}},
		// w: |w| = 5, |g| = 1: local = 0.1*5/(1+0.1*5) = 1/3; g+0.1w = (0.9, 1.2), v = (0.3, 0.4), w = (2.7, 3.6).
		//    |w| = 4.5: local = 0.45/1.45; g+0.1w = (0.87, 1.16), times local (0.27, 0.36), v = (0.54, 0.72).
		// b: |b| = 0: local = 1, v = 0.5. Then |b| = 0.5: local = 0.05/(0.5+0.05) = 1/11; (0.5-0.05)/11 = 0.0409090909,
		//    v = 0.45+0.0409090909.
		{"lars:trust=0.1,weight_decay=0.1", 1, two, []float32{3, 4, 0}, [][]float32{{0.6, 0.8, 0.5}, {0.6, 0.8, 0.5}},
			[][]float64{{2.7, 3.6, -0.5}, {2.16, 2.88, -0.990909091}}},
		// w: t=1: Adam's ratio is (1, -1); u = (1+0.3, -1+0.4) = (1.3, -0.6), |u| = 1.43178211, |w|/|u| = 3.49215148;
		//    w = (3 - 0.349215148*1.3, 4 + 0.349215148*0.6).
		//    t=2: m = (0.07, -0.045), over 0.19: (0.368421053, -0.236842105); v = (0.00031225, 0.00024975), over
		//    0.001999, roots (0.395225381, 0.353464828): (0.932179639, -0.670058254); u = (1.18678167, -0.249105345),
		//    |u| = 1.21264348, |w| = 4.91958886, ratio 4.05691270; w = (2.54602031 - 0.405691270*1.18678167,
		//    4.20952909 + 0.405691270*0.249105345).
		// b: |b| = 0: ratio 1, u = 1, b = -0.1. Then Adam's ratio is 1 again, u = 1-0.01 = 0.99, |b|/|u| = 0.101010101:
		//    b = -0.1 - 0.1*0.1.
		{"lamb:eps=1e-12,weight_decay=0.1", 0.1, two, []float32{3, 4, 0}, [][]float32{{0.5, -0.5, 0.5}, {0.25, 0, 0.5}},
			[][]float64{{2.54602031, 4.20952909, -0.1}, {2.06455333, 4.31058896, -0.11}}},
		// z = -1*1/0.1 = -10, so that x is 1; sigma = 5: z = -10+0.5-5 = -14.5, over 15. Then n = 0.3125, sigma = 0.59016994.
		{"ftrl", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.966666667}, {0.950630924}}},
		// z = 0.5: x = -(0.5-0.3)/15; z = 0.25 + 0.59016994*0.0133333333 = 0.257868933, below l1.
		{"ftrl:l1=0.3", 0.1, one, []float32{0}, [][]float32{{0.5}, {-0.25}}, [][]float64{{-0.0133333333}, {0}}},
		// z = -10.3, then -14.8: x = 14.5/15, as without l1.
		{"ftrl:l1=0.3", 0.1, one, []float32{1}, [][]float32{{0.5}}, [][]float64{{0.966666667}}},
		// z = -1*(10+1) = -11; z = -15.5, over 15+1; z = -15.25 - 0.59016994*0.96875 = -15.8217271, over 16.5901699.
		{"ftrl:l2=1", 0.1, one, []float32{1}, [][]float32{{0.5}, {0.25}}, [][]float64{{0.96875}, {0.953680835}}},
		// |g| = 5 over both layers: g/(5+1e-6) = (0.59999988, 0, 0.79999984). Then |g| = 0.5 stays.
		{"sgd:clip=1", 1, two, []float32{3, 4, 0}, [][]float32{{3, 0, 4}, {0.3, 0, 0.4}},
			[][]float64{{2.40000012, 4, -0.79999984}, {2.10000012, 4, -1.19999984}}},
	} {
		o := make1(t, c.rule, c.l)
		x := append([]float32(nil), c.x...)
		for k, g := range c.grads {
			o.Begin(k+1, c.rate)
			o.Apply(x, append([]float32(nil), g...), 0, 1)
			for i := range x {
				if want := c.want[k][i]; math.Abs(float64(x[i])-want) > 5e-7*max(1, math.Abs(want)) {
					t.Errorf("%s: after update %d x[%d] is %v, want %v", c.rule, k+1, i, x[i], want)
				}
			}
		}
	}
}
