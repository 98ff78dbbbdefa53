package vec_test

import (
	"fmt"

	"github.com/covey-ml/covey/vec"
)

// A dense layer and its gradients: y = x w' + bias for two samples, three inputs and two outputs, with w as PyTorch
// stores it, one row an output.
func Example() {
	const n, in, out = 2, 3, 2
	x := []float32{1, 2, 3, 4, 5, 6}
	w := []float32{1, 0, -1, 0.5, 0.5, 0.5}
	bias := []float32{10, 20}

	y := make([]float32, n*out)
	vec.MatMulNT(y, x, w, n, out, in, false)
	vec.AddBias(y, bias, n)
	fmt.Println("y ", y)

	dy := []float32{1, 0, 0, 1}
	dw, db, dx := make([]float32, out*in), make([]float32, out), make([]float32, n*in)
	vec.MatMulTN(dw, dy, x, out, in, n, false)
	vec.SumRows(db, dy, n, false)
	vec.MatMul(dx, dy, w, n, in, out, false)
	fmt.Println("dw", dw)
	fmt.Println("db", db)
	fmt.Println("dx", dx)
	// Output:
	// y  [8 23 8 27.5]
	// dw [1 2 3 4 5 6]
	// db [1 1]
	// dx [1 0 -1 0.5 0.5 0.5]
}

func ExampleMatMul() {
	a := []float32{1, 2, 3, 4}
	c := []float32{100, 0, 0, 100}
	vec.MatMul(c, a, a, 2, 2, 2, true)
	fmt.Println(c)
	// Output: [107 10 15 122]
}

func ExampleSoftmaxXent() {
	logits := []float32{0, 0, 0, 0}
	d := make([]float32, 4)
	loss := vec.SoftmaxXent(d, logits, []int32{1}, 1, 4)
	fmt.Println(loss, d)
	// Output: 1.3862944 [0.25 -0.75 0.25 0.25]
}

func ExampleCSRMatVec() {
	// The rows (0, 2, 0) and (1, 0, 3).
	row, col, val := []int{0, 1, 3}, []int32{1, 0, 2}, []float32{2, 1, 3}
	y := make([]float32, 2)
	vec.CSRMatVec(y, row, col, val, []float32{10, 20, 30})
	fmt.Println(y)
	// Output: [40 100]
}

func ExampleLogLoss() {
	// Two samples with one feature each.
	row, col := []int{0, 1, 2}, []int32{0, 1}
	w, z, g := []float64{1, -1}, make([]float64, 2), make([]float64, 2)
	vec.CSRMargins(z, row, col, nil, w) // nil: features that are there or not
	loss := vec.LogLoss(z, nil, z, []int32{1, 0})
	vec.CSRAddGrad(g, row, col, nil, z)
	fmt.Printf("%.4f %.4f\n", loss, g)
	// Output: 0.6265 [-0.2689 0.2689]
}

// What a top-k compressor sends: indices and values, which the other side adds up.
func ExampleTopK() {
	g := []float32{0.1, -3, 0, 2, -0.5}
	idx, v := make([]int32, 2), make([]float32, 2)
	vec.TopK(idx, g)
	vec.Gather(v, g, idx)
	sum := make([]float32, 5)
	vec.ScatterAdd(sum, idx, v)
	fmt.Println(idx, sum)
	// Output: [1 3] [0 -3 0 2 0]
}

func ExampleQuantize() {
	g := []float32{0.1, -3, 0, 2, -0.5}
	u := []float32{0.9, 0.1, 0.5, 0.5, 0.2} // random numbers
	grid := vec.Grid{Step: vec.MaxAbs(g) / 7, Zero: 7, Top: 14}
	code, packed := make([]uint8, 5), make([]byte, vec.PackedLen(5, 4))
	vec.Quantize(code, g, u, grid)
	vec.Pack(packed, code, 4)

	vec.Unpack(code, packed, 4)
	vec.Dequantize(g, code, grid)
	fmt.Printf("%x %.3g\n", packed, g)
	// Output: 07c706 [0 -3 0 2.14 -0.429]
}

func ExampleToHalf() {
	h, x := make([]uint16, 2), make([]float32, 2)
	vec.ToHalf(h, []float32{1.0 / 3, 1e6})
	vec.FromHalf(x, h)
	fmt.Println(x)
	// Output: [0.33325195 +Inf]
}

func ExampleAdam() {
	x, m, v := []float32{1}, []float32{0}, []float32{0}
	// The first step moves by the learning rate, whatever the gradient's size.
	vec.Adam(x, []float32{1000}, m, v, 1, 0.25, 0.5, 0.75, 1e-8, 0.5, 0.25)
	fmt.Println(x)
	// Output: [0.75]
}

func ExampleFMA() {
	// The square is 1 + 2^-11 + 2^-24, which float32 rounds to 1 + 2^-11.
	x, z := float32(1+1.0/4096), float32(-1-1.0/2048)
	fmt.Println(float32(x*x)+z, vec.FMA(x, x, z))
	// Output: 0 5.9604645e-08
}

func ExampleTreeSum() {
	// The order is ((1 + 1e16) + (-1e16 + 1)) + 1, not from left to right.
	fmt.Println(vec.TreeSum([]float64{1, 1e16, -1e16, 1, 1}))
	// Output: 1
}
