std = "lua54"
max_line_length = 120
include_files = { "lua/**/*.lua", "apps/**/*.lua", "tests/**/*.lua" }
exclude_files = { "build", "lua/perigee/_meta" }

files["**/spec/**/*_spec.lua"] = { std = "+busted" }
files["tests/bench/peers/nginx/*.lua"] = { std = "ngx_lua", max_line_length = false }
