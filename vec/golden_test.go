package vec

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"os"
	"testing"

	"github.com/covey-ml/covey/rng"
)

// golden is what each kernel gives on seeded inputs, hashed: on amd64 with assembly, on its twin, and on every other
// processor. A change of one is a change of the weights of every job that uses it, and belongs in the changelog.
var golden = map[string]string{
	"Add":           "565674d0fe7b3279",
	"AddTo":         "a8e299084a3993b3",
	"AddBoth":       "7ee65585fe817773",
	"AddFour":       "87bafeb07a5b6b57",
	"Scale":         "944cf9d8f3dac6ca",
	"Axpy":          "0ec6180489fbaeee",
	"Dot":           "19b6a04bc79503c1",
	"SumSquares":    "9c9142d3d272f0c3",
	"ArgMax":        "b6d8341ca4f4d55f",
	"Finite":        "02908fb39caa3de0",
	"MatMul":        "9b95a6731caf5798",
	"MatMulNT":      "50576f97a2e1d6e5",
	"MatMulTN":      "07cb6f1366d4863f",
	"AddBias":       "bbd2e13241275827",
	"SumRows":       "2c67d03480efa415",
	"ReLU":          "4e34cbf8455e56c3",
	"ReLUGrad":      "577748d418b8c966",
	"Tanh":          "443c91156aa18972",
	"TanhGrad":      "5b24130e19bdbfd8",
	"GELU":          "693b849f3c1a9a14",
	"GELUGrad":      "392617b47b8039fd",
	"Sigmoid":       "c1e3de3853c07866",
	"Softmax":       "209089035a74ba08",
	"SoftmaxXent":   "3dc9b15cfad75f6d",
	"CSRMatVec":     "c7cbaee1b5e1af67",
	"CSRMatMul":     "bd9b49487ae104cd",
	"CSRTMatMul":    "6f91ef050cfa097c",
	"Momentum":      "1d77d73f23c91650",
	"Adam":          "3270c4756e6b21da",
	"AdamDirection": "96160d149e0b65f8",
	"RMSProp":       "59405fa11d0dbffb",
	"Adagrad":       "f6b3f32ffea44097",
	"scalars":       "9da02cfb4db0c1fc",
	"CSRMargins":    "3b9184c03aeb251a",
	"CSRAddGrad":    "6a62fdddf3517515",
	"CSRAddHess":    "b25ab1fd0eefa5a1",
	"CSRAddGram":    "fca2fa6c8be049e3",
	"LogLoss":       "d09da443e7a4ebfb",
	"Half":          "ccec8fc27359760a",
	"Bfloat":        "a4630ab83f747b4f",
	"Pack":          "4b09cdeb27c4f7b1",
	"PackSigns":     "c016096135ddfeba",
	"Quantize":      "cf1fdabc391b3faa",
	"Lookup":        "b60aac9c9cfe759c",
	"Extremes":      "90795573f12a072f",
	"TopK":          "f998be42d1e80c4d",
	"Above":         "d51fa4fb10e697a3",
	"GatherImages":  "e63a81e87e25b598",
	"Uniform":       "5b54f20b9b50a74a",
	"Quantize16":    "f6d7e617c333d898",
	"RoundPowers":   "decfaaf048114014",
	"SplitSums":     "53d3b28bc051f43d",
	"UnpackPair":    "2f7f15a79888b242",
	"MaxCode":       "0e4937bc040327a4",
	"ToMini":        "e9d00118675546d3",
	"FloorSteps":    "e08a26a93d48e0e1",
	"Shifts":        "a59d1adf65a8c8f2",
}

func TestGolden(t *testing.T) {
	for _, k := range kernelCases {
		h := sha256.New()
		var buf [4]byte
		for _, n := range []int{0, 1, 2, 7, 8, 9, 31, 33, 64, 70, 257} {
			for kind := range numKinds {
				s := newSource(1, kind, rng.Key(0, k.name), uint64(n))
				for _, v := range k.run(s, n) {
					b := math.Float32bits(v)
					if v != v {
						b = 0x7fc00000
					}
					binary.LittleEndian.PutUint32(buf[:], b)
					h.Write(buf[:])
				}
			}
		}
		if got := hex.EncodeToString(h.Sum(nil)[:8]); got != golden[k.name] {
			t.Errorf("the kernels (%s) give %q: %q, want %q", Kernels(), k.name, got, golden[k.name])
		}
	}
}

func TestKernelsFollowEnvironment(t *testing.T) {
	if os.Getenv("COVEY_NOASM") == "1" && Kernels() != "portable" {
		t.Errorf("COVEY_NOASM=1, yet the kernels are %s", Kernels())
	}
}
