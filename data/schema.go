package data

import "slices"

// Schema is how samples were read: all that is needed to read more data in the same way (a test file, what a trained
// model is asked to predict) and nothing of the samples themselves. It is plain data and survives JSON. A Schema that a
// data set returns belongs to it and must not be changed.
type Schema struct {
	Format  string   `json:"format"` // idx, libsvm or csv
	Task    Task     `json:"task"`
	Dim     int      `json:"dim"`               // features a sample, as in Info
	Shape   []int    `json:"shape"`             // as in Info
	Classes int      `json:"classes,omitempty"` // as in Info
	Targets int      `json:"targets,omitempty"` // as in Info
	Sparse  bool     `json:"sparse,omitempty"`  // as in Info
	Labels  []string `json:"labels,omitempty"`  // class names by number, or none

	// Images: pixel/255, minus Mean, divided by Deviation when that is not 0.
	Mean      float32 `json:"mean,omitempty"`
	Deviation float32 `json:"deviation,omitempty"`

	Hash *Hashing `json:"hash,omitempty"` // CSV, LIBSVM: how features were hashed; nil when they were not

	// CSV.
	Named        bool      `json:"named,omitempty"` // columns have names
	Width        int       `json:"width,omitempty"` // columns of the file
	Features     []Feature `json:"features,omitempty"`
	TargetNames  []string  `json:"target_names,omitempty"`
	TargetPlaces []int     `json:"target_places,omitempty"`
}

// Feature is one column of a CSV file: a number, a text that becomes one indicator for each of Texts, or either, hashed into
// one of Slots indicators.
type Feature struct {
	Name      string   `json:"name"`                // from the file, or its number from 1
	Place     int      `json:"place"`               // column in the file, from 0
	Texts     []string `json:"texts,omitempty"`     // the texts in the training data, sorted; none for numbers
	Slots     int      `json:"slots,omitempty"`     // hashed: features of the column
	Number    string   `json:"number,omitempty"`    // hashed: what becomes of its numbers, as in Options.Numbers; "" is a text
	Fill      float32  `json:"fill,omitempty"`      // replaces a missing number: the mean of the training samples
	Mean      float32  `json:"mean,omitempty"`      // standardized: (value - Mean) / Deviation,
	Deviation float32  `json:"deviation,omitempty"` // when this is not 0
}

// Info describes samples that are read so.
func (s *Schema) Info(name string) Info {
	in := Info{Name: name, Task: s.Task, Dim: s.Dim, Shape: slices.Clone(s.Shape), Classes: s.Classes, Targets: s.Targets,
		Sparse: s.Sparse, Columns: columnNames(s.Features), Labels: slices.Clone(s.Labels)}
	if s.Sparse && len(s.Features) > 0 {
		off := 0
		for i := range s.Features {
			in.Fields = append(in.Fields, off)
			off += s.Features[i].span()
		}
	}
	return in
}

// indicators is how many features the column has of which a sample has one at most, which is 1; 0 when it is a number.
func (f *Feature) indicators() int {
	if f.Slots > 0 && f.Number != numbersAsValues {
		return f.Slots
	}
	return len(f.Texts)
}

// span is how many features the column has.
func (f *Feature) span() int { return max(f.Slots, len(f.Texts), 1) }

// What becomes of numbers with Options.Hash.
const (
	numbersByLog    = "log"
	numbersAsValues = "value"
)

// SchemaOf returns how ds was read, nil when ds does not know (it comes from another package).
func SchemaOf(ds Dataset) *Schema {
	if d, ok := ds.(interface{ Schema() *Schema }); ok {
		return d.Schema()
	}
	return nil
}
