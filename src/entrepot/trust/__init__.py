"""trust (essay follows)"""
