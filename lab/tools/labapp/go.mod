module meshlink.lab/labapp

go 1.26.0
