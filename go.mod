module github.com/covey-ml/covey

go 1.26
