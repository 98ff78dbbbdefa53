//go:build !amd64 || noasm

package vec

const useAVX2 = false

func add(dst, x []float32)                         { addTwin(dst, x) }
func addTo(dst, a, b []float32)                    { addToTwin(dst, a, b) }
func addBoth(dst, also, a, b []float32)            { addBothTwin(dst, also, a, b) }
func addFour(a, b, c, d []float32)                 { addFourTwin(a, b, c, d) }
func scale(a float32, x []float32)                 { scaleTwin(a, x) }
func axpy(a float32, x, y []float32)               { axpyTwin(a, x, y) }
func finite(x []float32) bool                      { return finiteTwin(x) }
func dot(x, y []float32) float32                   { return dotTwin(x, y) }
func squares(x []float32) float64                  { return squaresTwin(x) }
func sumRows(db, dy []float32, rows int, acc bool) { sumRowsTwin(db, dy, rows, acc) }
func relu(y, x []float32)                          { reluTwin(y, x) }
func reluGrad(dx, dy, y []float32)                 { reluGradTwin(dx, dy, y) }
func tanh(y, x []float32)                          { tanhTwin(y, x) }
func tanhGrad(dx, dy, y []float32)                 { tanhGradTwin(dx, dy, y) }
func gelu(y, x []float32)                          { geluTwin(y, x) }
func geluGrad(dx, dy, x []float32)                 { geluGradTwin(dx, dy, x) }
func sigmoid(y, x []float32)                       { sigmoidTwin(y, x) }
func softmaxRow(e, x []float32) (s, m float64)     { return softmaxRowTwin(e, x) }
func softmaxSum(x []float32) (s, m float64)        { return softmaxSumTwin(x) }
func scaleDouble(x []float32, a float64)           { scaleDoubleTwin(x, a) }
func adam(x, g, m, v []float32, p *adamConst)      { adamTwin(x, g, m, v, p) }
func adamDir(d, g, m, v []float32, p *adamConst)   { adamDirTwin(d, g, m, v, p) }
func sgd(x, g []float32, scale, nlr float32)       { sgdTwin(x, g, scale, nlr) }
func rmsprop(x, g, v []float32, scale, nlr, alpha, c, eps float32) {
	rmspropTwin(x, g, v, scale, nlr, alpha, c, eps)
}

func momentum(x, g, v []float32, scale, nlr, mu, c float32, nest bool) {
	momentumTwin(x, g, v, scale, nlr, mu, c, nest)
}
