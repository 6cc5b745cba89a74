@echo off
rem Runs goss-supervisor from this checkout, in a private virtual environment that it makes by itself.
setlocal
for %%p in (py.exe python3.exe python.exe) do (
    %%p -I -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>nul && (
        set "found=%%p"
        goto found
    )
)
echo goss-supervisor: Python 3.11 or newer is needed: winget install Python.Python.3.13 1>&2
exit /b 1

:found
%found% -I "%~dp0bootstrap" "%~dp0.." run || exit /b
"%~dp0..\.venv\Scripts\python.exe" -I -m supervisor %*
