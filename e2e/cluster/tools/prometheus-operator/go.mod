// Its definitions, against which the charts' objects are checked. Nothing is built from it.
module mlop.dev/e2e/tools/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
